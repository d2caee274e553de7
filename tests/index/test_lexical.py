from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.database import open_reader, query
from index.lexical import match_expression, search
from index.types import Collection
from tests.index.conftest import Workspace, unhurried

_SYNTAX = st.lists(
    st.sampled_from(['"', "'", "*", "^", "(", ")", "{", "}", ":", "+", "-", ",", "AND", "OR", "NOT", "NEAR(a b)"])
    | st.sampled_from(["heading:", "text", "a", "the", "_", "\0", "\ud800", "²", "½", "e\u0301", "字", "\U0001e922"]),
    max_size=20,
)
_QUESTIONS = st.one_of(st.text(st.characters()), _SYNTAX.map("".join), _SYNTAX.map(" ".join))


@pytest.fixture(scope="module")
def table() -> Iterator[apsw.Connection]:
    """One row, with the words kestrel and leave, in a table like the schema's."""
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE lexical USING fts5 (heading, text, content = '', contentless_delete = 1,"
        " tokenize = 'porter unicode61')"
    )
    connection.execute("INSERT INTO lexical (rowid, heading, text) VALUES (1, '', 'the kestrel leaves, not often')")
    yield connection
    connection.close()


def _matches(table: apsw.Connection, question: str) -> bool:
    expression = match_expression(question)
    if expression is None:
        return False
    return bool(query(table, "SELECT rowid FROM lexical WHERE lexical MATCH ?", (expression,)))


@unhurried
@given(question=_QUESTIONS)
def test_no_question_is_a_syntax_error(table: apsw.Connection, question: str) -> None:
    _matches(table, question)  # raises apsw.SQLError where there is one


@unhurried
@given(question=_QUESTIONS)
def test_a_telling_word_is_found_whatever_stands_around_it(table: apsw.Connection, question: str) -> None:
    assert _matches(table, f"{question} Kestrel")
    assert _matches(table, f"kestrels? {question}")


def test_a_question_of_ten_thousand_words_is_no_error(table: apsw.Connection) -> None:
    assert _matches(table, " ".join([*(f"word{number}" for number in range(10_000)), "kestrel"]))


@pytest.mark.parametrize(
    ("question", "expression"),
    [
        ("How long is parental leave?", '"long" OR "parental" OR "leave"'),
        ("leave, LEAVE and leave", '"leave" OR "LEAVE" OR "leave"'),
        ("snake_case max_tokens", '"snake" OR "case" OR "max" OR "tokens"'),
        ("What is it?", '"What" OR "is" OR "it"'),
        ('say "x" OR NOT y*', '"say" OR "x" OR "y"'),
        ("§ 7.2", '"7" OR "2"'),
        ("?!", None),
        ("___", None),
        ("", None),
    ],
)
def test_stop_words_go_unless_there_are_no_others(question: str, expression: str | None) -> None:
    assert match_expression(question) == expression


def _found(workspace: Workspace, question: str, k: int = 10, collections: tuple[str, ...] = ("notes",)) -> list[str]:
    """Paths, best first."""
    connection = open_reader(workspace.data)
    try:
        known = dict(query(connection, "SELECT name, id FROM collections"))
        paths = dict(
            query(connection, "SELECT chunks.id, path FROM chunks JOIN documents ON documents.id = document_id")
        )
        hits = search(connection, question, k, [known[name] for name in collections])
    finally:
        connection.close()
    assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
    return [paths[id] for id, _ in hits]


def test_the_best_match_is_first_and_a_heading_counts_more_than_text(workspace: Workspace) -> None:
    workspace.write("heading.md", "# Kestrel\n\nabout one bird of many")
    workspace.write("text.md", "# Birds\n\nabout one kestrel of many")
    workspace.write("other.md", "# Fish\n\nabout one pike of many")
    workspace.sync()
    assert _found(workspace, "the kestrels") == ["heading.md", "text.md"]
    assert _found(workspace, "kestrels", k=1) == ["heading.md"]


def test_a_document_is_found_by_the_words_of_its_path(workspace: Workspace) -> None:
    workspace.write("policies/travel.md", "sixteen weeks")
    workspace.sync()
    assert _found(workspace, "travel policies") == ["policies/travel.md"]


def test_words_are_found_by_stem_and_without_accents(workspace: Workspace) -> None:
    workspace.write("a.txt", "The café was relocating")
    workspace.sync()
    assert _found(workspace, "relocated") == _found(workspace, "CAFE") == ["a.txt"]


def test_a_question_of_stop_words_finds_them(workspace: Workspace) -> None:
    workspace.write("band.txt", "The Who")
    workspace.sync()
    assert _found(workspace, "who are the who") == ["band.txt"]


def test_only_the_asked_collections_are_searched(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    workspace.write("a.txt", "kestrel")
    workspace.write("b.txt", "kestrel", other)
    workspace.start(Collection("notes", workspace.root), Collection("other", other))
    workspace.sync()
    assert _found(workspace, "kestrel") == ["a.txt"]
    assert _found(workspace, "kestrel", collections=("other",)) == ["b.txt"]
    assert sorted(_found(workspace, "kestrel", collections=("notes", "other"))) == ["a.txt", "b.txt"]
    assert _found(workspace, "kestrel", collections=()) == []
