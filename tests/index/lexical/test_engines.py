"""FTS5 and tantivy over the same rows."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from index.lexical import fts5
from index.lexical.analyzer import VERSION, Analyzer
from index.lexical.fill_progress import FillProgress
from index.lexical.inverted_writer import InvertedWriter
from index.lexical.rows import make_row
from index.storage.sqlite.database import open_writer
from index.types import Ids
from tests.index.conftest import unhurried
from tests.index.lexical.test_analyzer import TEXTS

_WORDS = [f"word{number}" for number in range(400)]
_NUM_CHUNKS = 3000


class Engines:
    """FTS5 and tantivy with the same chunks; a chunk's collection, 1, 2 or 3, follows from its id."""

    def __init__(self, folder: Path, texts: list[str]) -> None:
        self.analyzer = Analyzer()
        rows = [make_row(self.analyzer, id, id % 3 + 1, "a.md", (), text) for id, text in enumerate(texts, start=1)]
        self.db = open_writer(folder)
        fts5.insert_rows(self.db, rows)
        self.inverted = InvertedWriter.create(folder / "lexical", "x", FillProgress(VERSION, 1, 0), 0)
        self.inverted.commit(rows, (), FillProgress(VERSION, 1, 0), 0)

    def search(
        self, question: str, k: int, scope: list[int] | None, only: Ids | None = None
    ) -> tuple[list[tuple[int, float]], ...]:
        terms = self.analyzer.question(question)
        return fts5.search(self.db, terms, k, scope, only), self.inverted.index.search(terms, k, scope, only)

    def close(self) -> None:
        self.inverted.close()
        self.db.close()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    rng = random.Random(4)
    weights = [1 / rank for rank in range(1, len(_WORDS) + 1)]
    texts = [" ".join(rng.choices(_WORDS, weights, k=rng.randint(5, 40))) for _ in range(_NUM_CHUNKS - 1)]
    engines = Engines(tmp_path_factory.mktemp("engines"), [*texts, "the kestrel leaves, not often"])
    yield engines
    engines.close()


@pytest.mark.parametrize("scope", [None, [1], [2, 3]])
def test_both_engines_score_alike(engines: Engines, scope: list[int] | None) -> None:
    rng = random.Random(5)
    agreed = total = 0
    for _ in range(30):
        question = " ".join(rng.choices(_WORDS[10:], k=3))
        small, large = engines.search(question, 10, scope)
        assert len(small) == len(large)
        assert [score for _, score in large] == sorted((score for _, score in large), reverse=True)
        # Lengths are stored in steps of an eighth, and a word in half of all chunks still counts a little.
        assert [score for _, score in large] == pytest.approx([score for _, score in small], rel=0.1, abs=0.1)
        agreed += len({id for id, _ in small} & {id for id, _ in large})
        total += len(small)
    assert agreed >= 0.85 * total


@pytest.mark.parametrize("scope", [[1], [2, 3], [], [99]])
def test_only_the_requested_collections_are_searched(engines: Engines, scope: list[int]) -> None:
    for hits in engines.search("word1 word20", 50, scope):
        assert len(hits) == (50 if {1, 2, 3} & set(scope) else 0)
        assert {id % 3 + 1 for id, _ in hits} <= set(scope)


@pytest.mark.parametrize("few", [0, 10_000], ids=["from longer lists", "named"])
@pytest.mark.parametrize("ids", [[], [7, 99_999], range(1, 3000, 97), range(1, 3000, 2)], ids=len)
def test_only_chunks_among_the_given_ids_are_found(
    engines: Engines, ids: Sequence[int], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.lexical.inverted._MAX_QUERY_IDS", few)
    only = np.array(ids, np.int64)
    everywhere = [dict(hits) for hits in engines.search("word1 word20", 3000, [1, 3])]
    for hits, hits_in_all in zip(engines.search("word1 word20", 40, [1, 3], only), everywhere, strict=True):
        expected = sorted((score for id, score in hits_in_all.items() if id in set(ids)), reverse=True)[:40]
        assert [score for _, score in hits] == pytest.approx(expected)
        assert all(hits_in_all[id] == pytest.approx(score) for id, score in hits)


def test_a_filter_does_not_change_scores(engines: Engines) -> None:
    for everywhere, scoped in zip(
        engines.search("word20 word30", 20, None), engines.search("word20 word30", 20, [1, 2, 3]), strict=True
    ):
        assert [score for _, score in scoped] == pytest.approx([score for _, score in everywhere], rel=1e-4)


@unhurried
@given(question=TEXTS)
def test_no_question_is_a_syntax_error_and_its_content_word_is_searched(engines: Engines, question: str) -> None:
    for text in (f"{question} Kestrel", f"kestrels? {question}"):
        for hits in engines.search(text, 3000, None):
            assert _NUM_CHUNKS in {id for id, _ in hits}


def test_a_question_of_ten_thousand_words_is_searched(engines: Engines) -> None:
    question = " ".join([*(f"other{number}" for number in range(10_000)), "kestrel"])
    for hits in engines.search(question, 5, None):
        assert [id for id, _ in hits] == [_NUM_CHUNKS]


def test_a_repeated_word_counts_each_time(engines: Engines) -> None:
    once, often = (engines.search(question, 1, None) for question in ("kestrel", "kestrel kestrel kestrel"))
    for (one,), (three,) in zip(once, often, strict=True):
        assert three == (one[0], pytest.approx(3 * one[1], rel=1e-4))


def test_without_terms_nothing_is_found(engines: Engines) -> None:
    assert fts5.search(engines.db, Counter(), 5, None) == engines.inverted.index.search(Counter(), 5, None) == []


@pytest.mark.parametrize("text", ["os.path", "ora-00942", "max_tokens", "字", "हिन्दी", "straße", "v3.51.2"])
def test_terms_are_stored_as_they_are(tmp_path: Path, text: str) -> None:
    engines = Engines(tmp_path, [text])
    try:
        for term in engines.analyzer.document(text).terms.split():
            expression = fts5.match_expression(Counter([term]), None)
            assert engines.db.execute("SELECT rowid FROM words WHERE words MATCH ?", (expression,)).fetchall() == [(1,)]
            assert [id for id, _ in engines.inverted.index.search(Counter([term]), 5, None)] == [1]
    finally:
        engines.close()


def test_terms_are_matched_in_their_column_alone(tmp_path: Path) -> None:
    engines = Engines(tmp_path, ["kestrel"])
    try:
        assert engines.search("c2 lenglish", 5, None) == ([], [])
    finally:
        engines.close()
