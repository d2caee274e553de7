import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from index.dense.compaction import vectors_folder
from index.dense.generations import read_newest
from index.errors import CollectionNotFound, DataFolderError, InvalidFilter
from index.search.retriever import Retriever
from index.storage.sqlite.vectors import VectorReader
from index.storage.vectors import ChunkVectors
from index.types import Collection, Filters, Query, Vectors
from tests.index.conftest import HashEmbedder, QueryHashEmbedder, Search, Workspace, set_mtime

_QUESTIONS = ["kestrel", "word3 word5", "item7 item20", "nothing of the kind", "word1 word2 word3 word4"]


def _paths(search: Search, question: str, k: int = 50) -> list[str]:
    return [passage.path for passage in search(question, k)]


def _results(search: Search) -> list[list[tuple[int, float, float]]]:
    """Return ids, scores and cosines for every question, without the digits that depend on the order of additions."""
    return [
        [
            (passage.chunk_id, round(passage.score, 5), round(passage.similarity or 0, 5))
            for passage in search(question, 40)
        ]
        for question in _QUESTIONS
    ]


def _fill(workspace: Workspace, start: int, stop: int) -> None:
    for number in range(start, stop):
        workspace.write(f"{number}.md", f"item{number} of word{number % 10} in word{number % 3}")
    workspace.sync()


def test_a_passage_has_all_that_a_citation_needs(workspace: Workspace) -> None:
    workspace.write("birds/kestrel.md", "# Birds\n\n## Kestrel\n\nA kestrel hovers.\nIt hunts voles.")
    workspace.write("fish.md", "Pike live in lakes.")
    workspace.sync()
    with workspace.retrieving() as search:
        (best, *_) = search("where does the kestrel hover")
    assert (best.collection, best.path, best.heading) == ("notes", "birds/kestrel.md", ("Birds", "Kestrel"))
    assert (best.text, best.line_from, best.line_to) == ("A kestrel hovers.\nIt hunts voles.", 5, 6)
    assert best.score == 1
    assert best.similarity is not None
    assert 0 < best.similarity < 1


def test_committed_changes_and_removals_are_searched_at_once(workspace: Workspace) -> None:
    workspace.write("a.md", "a kestrel")
    workspace.sync()
    with workspace.retrieving() as search:
        assert _paths(search, "kestrel") == ["a.md"]
        workspace.write("b.md", "kestrel and kestrel")
        workspace.sync()
        assert set(_paths(search, "kestrel")) == {"a.md", "b.md"}
        workspace.write("a.md", "a pike")
        workspace.sync()
        assert _paths(search, "kestrel", 1) == ["b.md"]
        assert {passage.text for passage in search("kestrel pike")} == {"a pike", "kestrel and kestrel"}
        (workspace.root / "b.md").unlink()
        workspace.sync()
        assert _paths(search, "kestrel") == ["a.md"]
        (workspace.root / "a.md").rename(workspace.root / "c.md")
        workspace.sync()
        assert _paths(search, "pike") == ["c.md"]


def test_an_empty_index_finds_nothing(workspace: Workspace) -> None:
    workspace.start()
    with workspace.retrieving() as search:
        assert search("kestrel") == []
        workspace.write("a.md", "kestrel")
        workspace.sync()
        assert _paths(search, "kestrel") == ["a.md"]


def test_a_database_that_is_created_later_is_searched(workspace: Workspace) -> None:
    with workspace.retrieving() as search:
        with pytest.raises(DataFolderError):
            search("kestrel")
        workspace.write("a.md", "kestrel")
        workspace.sync()
        assert _paths(search, "kestrel") == ["a.md"]


def test_at_most_k_passages_are_returned_best_first(workspace: Workspace) -> None:
    _fill(workspace, 0, 30)
    with workspace.retrieving() as search:
        for k in (0, 1, 7, 30, 1000):
            passages = search("item7 word7", k)
            assert len(passages) == min(k, 30)
            assert [passage.score for passage in passages] == sorted((p.score for p in passages), reverse=True)
        assert search("item7 word7", 1)[0].path == "7.md"


def test_a_question_without_words_is_searched_by_its_vector_alone(workspace: Workspace) -> None:
    workspace.write("a.md", "kestrel")
    workspace.sync()
    with workspace.retrieving() as search:
        assert _paths(search, "?!") == ["a.md"]


def test_only_the_requested_collections_are_searched(workspace: Workspace) -> None:
    other = Collection("other", workspace.root.with_name("other"))
    for number in range(120):  # more than the candidates of one search, and all of them nearer
        workspace.write(f"{number}.md", f"kestrel kestrel kestrel {number}")
    workspace.write("far.md", "one kestrel among many other birds of the moor", other.root)
    workspace.start(*workspace.collections, other)
    workspace.sync()
    with workspace.retrieving() as search:
        assert {passage.collection for passage in search("kestrel", 20)} == {"notes"}
        assert {passage.collection for passage in search("kestrel", 20, ["notes"])} == {"notes"}
        assert [passage.path for passage in search("kestrel", 20, ["other"])] == ["far.md"]
        assert {passage.collection for passage in search("kestrel", 20, ["notes", "other"])} == {"notes"}
        assert search("moor", 20, ["notes", "other"])[0].path == "far.md"
        assert search("kestrel", 20, []) == []
        workspace.write("new.md", "kestrel", other.root)
        workspace.sync()
        assert {passage.path for passage in search("kestrel", 20, ["other"])} == {"far.md", "new.md"}


def test_an_unknown_or_inactive_collection_raises_with_the_names_of_the_others(workspace: Workspace) -> None:
    workspace.start(Collection("old", workspace.root))
    workspace.start(Collection("b", workspace.root), Collection("a", workspace.root))
    with workspace.retrieving() as search:
        for name in ("missing", "old"):
            with pytest.raises(CollectionNotFound) as refusal:
                search("kestrel", 5, ["a", name])
            assert (refusal.value.name, refusal.value.known) == (name, ["a", "b"])


def test_every_start_gives_the_same_results_as_brute_force(workspace: Workspace) -> None:
    """Search after a start from a generation and later changes, from vectors alone, and after following all changes."""
    with workspace.retrieving() as followed:
        workspace.write("kestrel.md", "a kestrel")
        _fill(workspace, 0, 25)
        _results(followed)
        workspace.indexer.write_generation()
        for number in range(0, 25, 4):
            (workspace.root / f"{number}.md").unlink()
        workspace.write("kestrel.md", "an edited kestrel")
        _fill(workspace, 25, 35)
        expected = _results(followed)
        with workspace.retrieving() as replayed:
            assert _results(replayed) == expected
        for generation in vectors_folder(workspace.data, workspace.embedder.fingerprint).iterdir():
            generation.unlink()
        with workspace.retrieving() as rebuilt:
            assert _results(rebuilt) == expected
    cosines = _cosines(workspace, _QUESTIONS[0])
    assert {id: cosine for id, _, cosine in expected[0]} == pytest.approx(cosines, abs=2e-5)


def _cosines(workspace: Workspace, question: str) -> dict[int, float]:
    """Return the cosine of every chunk, computed from its text."""
    rows = workspace.rows("SELECT id, text FROM chunks")
    (query,) = workspace.embedder.vectors([question])
    stored = workspace.embedder.vectors([str(text) for _, text in rows]).astype(np.float16).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    return {int(str(id)): float(vector @ query) for (id, _), vector in zip(rows, stored, strict=True)}


def test_a_start_uses_the_generation(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(workspace, 0, 10)
    workspace.indexer.write_generation()
    _fill(workspace, 10, 12)
    calls: list[list[int]] = []
    of_chunks = VectorReader.of_chunks

    def record(self: VectorReader, chunk_ids: list[int]) -> ChunkVectors:
        calls.append(chunk_ids)
        return of_chunks(self, chunk_ids)

    monkeypatch.setattr(VectorReader, "of_chunks", record)
    monkeypatch.delattr(VectorReader, "blocks")
    with workspace.retrieving() as search:
        assert len(_paths(search, "word1")) == 12
    assert calls[0] == [11, 12]


def test_a_damaged_generation_does_not_change_the_results(workspace: Workspace) -> None:
    _fill(workspace, 0, 20)
    workspace.indexer.write_generation()
    with workspace.retrieving() as search:
        expected = _results(search)
    (generation,) = vectors_folder(workspace.data, workspace.embedder.fingerprint).iterdir()
    content = generation.read_bytes()
    generation.write_bytes(content[:-40] + bytes(8) + content[-32:])
    with workspace.retrieving() as search:
        assert _results(search) == expected


def test_a_reader_behind_the_trimmed_change_log_loads_anew(workspace: Workspace) -> None:
    _fill(workspace, 0, 10)
    with workspace.retrieving() as behind:
        _results(behind)
        for start in (10, 20, 30):
            (workspace.root / f"{start - 10}.md").unlink()
            _fill(workspace, start, start + 10)
            workspace.indexer.write_generation()
        ((oldest,),) = workspace.rows("SELECT min(seq) FROM changes")
        assert int(str(oldest)) > 20, "nothing the reader needs was trimmed"
        with workspace.retrieving() as fresh:
            assert _results(behind) == _results(fresh)
        assert len(_paths(behind, "word1")) == 37


def test_every_kept_generation_can_be_caught_up_from(workspace: Workspace) -> None:
    for start in (0, 10, 20, 30):
        _fill(workspace, start, start + 10)
        workspace.indexer.write_generation()
    with workspace.retrieving() as search:
        expected = _results(search)
    older, newer = sorted(vectors_folder(workspace.data, workspace.embedder.fingerprint).iterdir())
    newer.unlink()
    ((oldest,),) = workspace.rows("SELECT min(seq) FROM changes")
    generation = read_newest(
        older.parent,
        workspace.rows("SELECT value FROM properties WHERE name = 'id'")[0][0],
        workspace.embedder.fingerprint,
        workspace.embedder.dimension,
    )
    assert generation is not None
    assert generation.header.seq >= int(str(oldest)) - 1
    with workspace.retrieving() as search:
        assert _results(search) == expected


def test_a_generation_from_before_the_trimmed_changes_or_of_a_later_database_is_not_used(workspace: Workspace) -> None:
    workspace.start()
    earlier = workspace.data.with_name("earlier")
    shutil.copytree(workspace.data, earlier)
    folder = vectors_folder(workspace.data, workspace.embedder.fingerprint)
    _fill(workspace, 0, 10)
    workspace.indexer.write_generation()
    (old,) = (generation.read_bytes() for generation in folder.iterdir())
    for start in (10, 20, 30):
        (workspace.root / f"{start - 10}.md").unlink()
        _fill(workspace, start, start + 10)
        workspace.indexer.write_generation()
    (folder / "00000009.vectors").write_bytes(old)
    with workspace.retrieving() as search:
        assert len(_paths(search, "word1")) == 37
        assert search("item35", 1)[0].similarity is not None
    shutil.copytree(folder, vectors_folder(earlier, workspace.embedder.fingerprint))
    workspace.close()
    workspace.data = earlier
    for file in workspace.root.iterdir():
        file.unlink()
    workspace.write("only.md", "word1")
    workspace.sync()
    with workspace.retrieving() as search:
        (best,) = search("word1")
        assert (best.path, best.similarity) == ("only.md", pytest.approx(1, abs=1e-3))


def test_more_changes_than_one_replay_takes_in_are_searched(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.dense.search._REPLAY", 7)
    with workspace.retrieving() as search:
        _fill(workspace, 0, 1)
        _results(search)
        for number in range(3):
            _fill(workspace, 0, 20)
            workspace.write("0.md", f"edit {number}")
            workspace.write("19.md", f"edit {number}")
            workspace.sync()
        with workspace.retrieving() as fresh:
            assert _results(search) == _results(fresh)


def test_a_generation_is_written_only_when_something_changed(workspace: Workspace) -> None:
    folder = vectors_folder(workspace.data, workspace.embedder.fingerprint)
    workspace.indexer.write_generation()
    assert not folder.exists()
    _fill(workspace, 0, 3)
    workspace.indexer.write_generation()
    workspace.indexer.write_generation()
    assert len(list(folder.iterdir())) == 1


def test_vectors_of_another_space_are_not_found(workspace: Workspace) -> None:
    workspace.write("a.md", "kestrel")
    workspace.sync()
    workspace.embedder = HashEmbedder("hash-b", 32)
    with workspace.retrieving() as search:
        (passage,) = search("kestrel")
        assert passage.similarity is None  # by its words alone
        assert search("?!") == []


def test_a_passage_can_be_encoded_as_json(workspace: Workspace) -> None:
    workspace.write("a.md", "# A\n\nkestrel")
    workspace.sync()
    with workspace.retrieving() as search:
        (passage,) = search("kestrel")
    assert msgspec.json.decode(msgspec.json.encode(passage), type=type(passage)) == passage


def test_each_stage_of_a_search_is_timed(workspace: Workspace) -> None:
    workspace.write("a.md", "a kestrel")
    workspace.sync()
    measurements: list[tuple[str, float]] = []
    embedder = workspace.embedder
    data = workspace.data
    with Retriever(
        data, embedder.fingerprint, embedder.dimension, on_stage=lambda *arguments: measurements.append(arguments)
    ) as retriever:
        assert Search(retriever, QueryHashEmbedder(embedder))("kestrel")
    stages = dict(measurements)
    assert sorted(stage for stage, _ in measurements) == ["all", "dense", "embed", "words"]
    assert 0 < max(stages["embed"], stages["dense"], stages["words"]) <= stages["all"]


def test_a_closed_retriever_raises(workspace: Workspace) -> None:
    workspace.start()
    with workspace.retrieving() as search:
        search("kestrel")
    with pytest.raises(RuntimeError):
        search("kestrel")
    with Retriever(workspace.data, "never used", 4):
        pass


class LongestFirst:
    """Scores texts by their length, as a reranker would by relevance."""

    def __init__(self) -> None:
        self.read: list[Sequence[str]] = []

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        self.read.append(texts)
        return np.array([len(text) - 20 for text in texts], np.float32)


def test_a_reranker_orders_the_best_thirty(workspace: Workspace) -> None:
    for number in range(1, 41):
        workspace.write(f"{number}.md", "kestrel " + "x" * number)
    workspace.sync()
    reranker = LongestFirst()
    with Retriever(workspace.data, workspace.embedder.fingerprint, workspace.embedder.dimension, reranker) as retriever:
        search = Search(retriever, QueryHashEmbedder(workspace.embedder))
        few, many = search("kestrel", 3), search("kestrel", 40)
        assert search("kestrel", 3, []) == []
    assert [len(texts) for texts in reranker.read] == [30, 30]
    assert [p.text for p in few] == sorted(reranker.read[0], key=len, reverse=True)[:3]
    assert len(many) == 40
    assert [p.score for p in many] == sorted((p.score for p in many), reverse=True)


@pytest.mark.parametrize("kind", ["scalar", "binary"])
def test_approximate_encodings_give_the_same_results(
    workspace: Workspace, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(workspace, 0, 60)
    with workspace.retrieving() as search:
        expected = _similarities(search)
    monkeypatch.setattr("index.dense.base_index.kind_for", lambda count: kind)
    with workspace.retrieving() as rebuilt:
        assert _similarities(rebuilt) == pytest.approx(expected, abs=1e-6)
    workspace.indexer.write_generation()
    for number in range(0, 60, 7):
        (workspace.root / f"{number}.md").unlink()
    _fill(workspace, 60, 70)
    with workspace.retrieving() as replayed:
        similarities = _similarities(replayed)
    assert len(similarities) == 61
    for generation in vectors_folder(workspace.data, workspace.embedder.fingerprint).iterdir():
        generation.unlink()
    with workspace.retrieving() as rebuilt:
        assert _similarities(rebuilt) == pytest.approx(similarities, abs=1e-6)
    assert similarities == pytest.approx(_cosines(workspace, "item7 word2"), abs=1e-5)


def _similarities(search: Search) -> dict[int, float | None]:
    return {passage.chunk_id: passage.similarity for passage in search("item7 word2", 500)}


def test_a_reader_with_a_large_delta_loads_a_newer_generation(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.dense.compaction._FEW", 5)
    loaded: list[object] = []
    read = read_newest

    def record(*space: object) -> object:
        loaded.append(space)
        return read(*space)  # type: ignore[arg-type]

    monkeypatch.setattr("index.dense.search.read_newest", record)
    workspace.start()
    with workspace.retrieving() as search:
        _results(search)
        _fill(workspace, 0, 20)
        expected = _results(search)
        asyncio.run(search.retriever.catch_up())
        assert len(loaded) == 1, "there is nothing newer yet"
        workspace.indexer.write_generation()
        for _ in range(3):
            asyncio.run(search.retriever.catch_up())
        assert len(loaded) == 2, "once"
        assert _results(search) == expected


def test_several_queries_give_one_ranking_by_their_weights(workspace: Workspace) -> None:
    workspace.write("kestrel.md", "the kestrel hovers over fields")
    workspace.write("pike.md", "the pike waits under water")
    for number in range(5):
        workspace.write(f"{number}.md", f"item{number} of the list")
    workspace.sync()
    embedder = CountingEmbedder(workspace.embedder)
    with workspace.retrieving() as search:
        first, second = (search([Query("kestrel", a), Query("pike water", b)], 2) for a, b in ((1, 0.3), (0.3, 1)))
        assert (first[0].path, second[0].path) == ("kestrel.md", "pike.md")
        alone = search("kestrel")
        assert search([Query("kestrel", 0.2), Query("pike", 0)]) == alone
        assert search([Query("kestrel", 0)]) == search([]) == []
        asyncio.run(search.retriever.search([Query("kestrel"), Query("pike"), Query("vole", 0)], embedder, 3))
    assert embedder.calls == [["kestrel", "pike"]]


class CountingEmbedder(QueryHashEmbedder):
    def __init__(self, embedder: HashEmbedder) -> None:
        super().__init__(embedder)
        self.calls: list[list[str]] = []

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        return await super().embed_queries(texts)


def test_filters_find_k_passages_however_far_down_they_rank(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    workspace.start(Collection("notes", workspace.root), Collection("other", other))
    for number in range(150):
        workspace.write(f"{number}.md", "kestrel kestrel hovers")
    workspace.write("deep/a.txt", f"a kestrel, mentioned late: {'word ' * 50}")
    set_mtime(workspace.write("deep/b.md", f"a long text: {'noun ' * 50} kestrel"), 10**18)
    workspace.write("deep/a.txt", f"the other kestrel: {'verb ' * 50}", other)
    workspace.sync()
    with workspace.retrieving() as search:

        def search_texts(collections: Sequence[str] | None = None, **filters: Any) -> list[str]:
            return sorted(p.file for p in search("kestrel", 3, collections, Filters(**filters)))

        assert search_texts(paths=("deep/",)) == ["notes/deep/a.txt", "notes/deep/b.md", "other/deep/a.txt"]
        assert search_texts(kinds=("TXT",)) == ["notes/deep/a.txt", "other/deep/a.txt"]
        assert search_texts(["other"], paths=("deep/",)) == ["other/deep/a.txt"]
        assert search_texts(paths=("deep/", "!*.txt"), kinds=(".md", "txt")) == ["notes/deep/b.md"]
        assert search_texts(modified_before=10**9 + 1) == ["notes/deep/b.md"]
        assert (
            search_texts(modified_before=10**9)
            == search_texts(paths=("nowhere/",))
            == search_texts([], paths=("deep/",))
            == []
        )
        assert search("kestrel", 3, None, Filters()) == search("kestrel", 3)
        workspace.write("deep/c.txt", "kestrel")
        workspace.sync()
        assert "notes/deep/c.txt" in search_texts(kinds=("txt",)), "what was selected before is looked up again"
        with pytest.raises(InvalidFilter):
            search_texts(paths=("\\",))


def test_evidence_has_a_z_score_and_the_coverage_of_each_query(workspace: Workspace) -> None:
    workspace.write("falcons/kestrel.md", "# Birds\n\nIt hovers over fields.")
    for number in range(5):
        workspace.write(f"{number}.md", f"item{number} of the list")
    workspace.sync()
    with workspace.retrieving() as search:
        queries = [Query("does the kestrel hover, or soar"), Query("kestrel hovers birds fields", 0.5)]
        best = next(p for p in search(queries) if p.path == "falcons/kestrel.md")
        unlike = next(p for p in search(queries) if p.path != "falcons/kestrel.md")
    assert [each.coverage for each in best.evidence] == [pytest.approx(2 / 3), 1]
    assert [each.coverage for each in unlike.evidence] == [0, 0]
    assert (best.evidence[1].z_score or 0) > (unlike.evidence[1].z_score or 0)
    workspace.embedder = HashEmbedder("hash-b", 32)
    with workspace.retrieving() as search:
        assert [p.evidence[0].z_score for p in search("kestrel")] == [None]
