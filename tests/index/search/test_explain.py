import asyncio
from pathlib import Path

import pytest

from index.errors import UnreadableDocument
from index.reading.readers import read
from index.search.explanation import Explanation, Outcome
from index.types import Collection, Filters, ParsedDocument, Query
from tests.index.conftest import QueryHashEmbedder, Search, Workspace


def explain(
    search: Search,
    workspace: Workspace,
    path: str,
    collection: str | None = None,
    k: int = 3,
    **filters: tuple[str, ...],
) -> Explanation:
    embedder, queries = QueryHashEmbedder(workspace.embedder), [Query("kestrel hovers")]
    (explanation,) = asyncio.run(
        search.retriever.explain(queries, embedder, 3, (collection, path), None, Filters(**filters))  # type: ignore[arg-type]
    )
    return explanation


def _read(path: str, content: bytes) -> ParsedDocument:
    if "broken" in path:
        raise UnreadableDocument("it is torn")
    return read(path, content)


@pytest.fixture
def birds(workspace: Workspace, tmp_path: Path) -> Workspace:
    workspace.read = _read
    workspace.start(Collection("notes", workspace.root), Collection("empty", tmp_path / "empty"))
    workspace.write("best.md", "# Kestrel\n\nkestrel hovers kestrel hovers")
    for number in range(6):
        workspace.write(f"{number}.md", f"item{number}: the kestrel hovers over field {number}")
    workspace.write("copy.md", "# Kestrel\n\nkestrel hovers kestrel hovers")
    workspace.write("far.md", "pike " * 50 + "wait under water, no bird hovers")
    workspace.write("blank.md", "")
    workspace.write("broken.md", "kestrel")
    workspace.write("picture.xyz", "kestrel")
    workspace.write(".hidden.md", "kestrel")
    workspace.sync()
    return workspace


def test_a_found_file_has_its_ranks(birds: Workspace) -> None:
    with birds.retrieving() as search:
        passages = search("kestrel hovers", 3)
        explanation = explain(search, birds, passages[0].path, "notes")
    assert (explanation.outcome, explanation.collection, explanation.rank) == (Outcome.FOUND, "notes", 1)
    assert explanation.passage == passages[0]
    assert all(rank is not None and rank <= 3 for rank in explanation.ranks)


@pytest.mark.parametrize(
    ("path", "outcome", "reason"),
    [
        ("nowhere.md", Outcome.NOT_INDEXED, "no watched folder has a file of this path"),
        ("../data/index.sqlite3", Outcome.NOT_INDEXED, "no watched folder has a file of this path"),
        ("a\0b", Outcome.NOT_INDEXED, "no watched folder has a file of this path"),
        ("picture.xyz", Outcome.NOT_INDEXED, "files of this kind are not read: .xyz"),
        (".hidden.md", Outcome.NOT_INDEXED, "the file is there and not followed"),
        ("broken.md", Outcome.FAILED, "it could not be read: it is torn"),
        ("blank.md", Outcome.NO_TEXT, "it has no text"),
    ],
)
def test_a_file_that_is_not_indexed_has_a_reason(birds: Workspace, path: str, outcome: Outcome, reason: str) -> None:
    with birds.retrieving() as search:
        explanation = explain(search, birds, path)
    assert explanation.outcome == outcome
    assert explanation.reason.startswith(reason)
    assert explanation.ranks == (None, None, None)


def test_a_file_that_waits_to_be_read_is_explained_as_pending(birds: Workspace) -> None:
    birds.write("later.md", "kestrel")
    birds.indexer.scan()
    with birds.retrieving() as search:
        assert explain(search, birds, "later.md").outcome == Outcome.PENDING
        explanation = explain(search, birds, "best.md", "nobody")
    assert (explanation.outcome, explanation.reason) == (Outcome.NOT_INDEXED, "there is no collection 'nobody'")


def test_an_outranked_file_names_the_better_passages(birds: Workspace) -> None:
    with birds.retrieving() as search:
        explanation = explain(search, birds, "far.md")
        passages = search("kestrel hovers", 3)
    assert (explanation.outcome, explanation.rank) == (Outcome.OUTRANKED, None)
    assert [p.chunk_id for p in explanation.instead] == [p.chunk_id for p in passages]
    assert explanation.ranks.words is not None and explanation.ranks.words > 3
    assert f"by words rank {explanation.ranks.words}" in explanation.reason


def test_a_dropped_duplicate_names_the_passage_that_is_kept(birds: Workspace) -> None:
    with birds.retrieving() as search:
        explanation = next(t for t in (explain(search, birds, path) for path in ("best.md", "copy.md")) if t.instead)
    assert explanation.outcome == Outcome.DROPPED
    assert explanation.reason.startswith("left out: the same text as notes/")
    assert [explanation.path in (file.split("/")[1] for file in p.also_in) for p in explanation.instead] == [True]


def test_a_file_that_the_filters_exclude_is_explained_as_filtered(birds: Workspace) -> None:
    with birds.retrieving() as search:
        assert explain(search, birds, "best.md", paths=("copy.md",)).outcome == Outcome.FILTERED
        assert explain(search, birds, "copy.md", paths=("copy.md",)).outcome == Outcome.FOUND
