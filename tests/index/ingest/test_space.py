"""The switch to another embedder: its vectors are computed beside those in use, and replace them at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.dense.compaction import vectors_folder
from index.ingest.progress import Progress
from index.ingest.space import SpaceUpkeep
from index.params import IndexingParams
from index.storage.records import VectorSpace
from tests.index.conftest import HashEmbedder, Workspace, eventually

_DOCUMENTS = 40


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.ingest.space._GRACE_S", 0.0)
    monkeypatch.setattr("index.ingest.space._BLOCK", 7)
    monkeypatch.setattr("index.ingest.space._REMOVED", 10)


@pytest.fixture
def indexed_workspace(workspace: Workspace) -> Workspace:
    for number in range(_DOCUMENTS):
        workspace.write(f"{number}.md", f"# Heading {number}\n\nitem{number}")
    workspace.sync()
    workspace.indexer.write_generation()
    return workspace


def _fingerprint(workspace: Workspace) -> str:
    space = workspace.catalog.vector_space()
    assert space is not None
    return space.fingerprint


def _vectors(workspace: Workspace) -> dict[str, int]:
    rows = workspace.rows("SELECT fingerprint, count(*) FROM vectors GROUP BY fingerprint")
    return {str(fingerprint): int(str(count)) for fingerprint, count in rows}


def _complete_switch(workspace: Workspace) -> None:
    """Let the indexer go on until the switch is complete and the old space removed."""
    indexer = workspace.indexer
    eventually(lambda: not indexer.follow_embedder() and not indexer.upkeep.is_building_space)
    while indexer.follow_embedder():
        pass


def test_the_first_embedder_s_space_is_in_use_at_once(workspace: Workspace) -> None:
    assert workspace.catalog.vector_space() is None
    workspace.start()
    assert workspace.catalog.vector_space() == VectorSpace("hash-a", 64)


def test_questions_are_answered_from_the_old_space_until_the_new_one_is_complete(indexed_workspace: Workspace) -> None:
    first, ids = indexed_workspace.embedder, indexed_workspace.chunk_ids()
    with indexed_workspace.retrieving() as search:
        expected = [(p.chunk_id, p.similarity) for p in search("item7", 20)]
    indexed_workspace.embedder = second = HashEmbedder("hash-b", 32)
    indexer = indexed_workspace.start()
    steps = 0
    while indexer.upkeep.is_building_space:
        assert _fingerprint(indexed_workspace) == "hash-a"
        indexed_workspace.embedder = first
        with indexed_workspace.retrieving() as search:
            assert [(p.chunk_id, p.similarity) for p in search("item7", 20)] == expected
        indexed_workspace.embedder = second
        indexer.follow_embedder()
        steps += 1
    assert steps > _DOCUMENTS // 7
    assert _fingerprint(indexed_workspace) == "hash-b"
    assert indexed_workspace.chunk_ids() == ids, "nothing was read or cut again"
    with indexed_workspace.retrieving() as search:
        passages = search("item7", 50)
        assert passages[0].path == "7.md"
        assert len(passages) == _DOCUMENTS
        assert all(passage.similarity is not None for passage in passages)


def test_the_old_space_is_removed(indexed_workspace: Workspace) -> None:
    assert vectors_folder(indexed_workspace.data, "hash-a").is_dir()
    indexed_workspace.embedder = HashEmbedder("hash-b", 32)
    indexed_workspace.start()
    _complete_switch(indexed_workspace)
    assert _vectors(indexed_workspace) == {"hash-b": _DOCUMENTS}
    assert [folder.name for folder in (indexed_workspace.data / "vectors").iterdir()] == ["hash-b"]
    assert indexed_workspace.rows("SELECT name FROM properties WHERE name = 'other_spaces'") == []


def test_a_switch_writes_a_snapshot_of_the_new_space(indexed_workspace: Workspace) -> None:
    indexed_workspace.embedder = HashEmbedder("hash-b", 32)
    indexed_workspace.start()
    _complete_switch(indexed_workspace)
    (generation,) = vectors_folder(indexed_workspace.data, "hash-b").iterdir()
    assert b'"count":40' in generation.read_bytes()[:400]


def test_files_changed_during_a_switch_are_in_the_new_space(indexed_workspace: Workspace) -> None:
    indexed_workspace.embedder = second = HashEmbedder("hash-b", 32)
    indexer = indexed_workspace.start()
    indexer.follow_embedder()
    indexed_workspace.write("3.md", "edited")
    indexed_workspace.write("new.md", "fresh")
    (indexed_workspace.root / "5.md").unlink()
    indexer.scan()
    while indexer.work():
        pass
    _complete_switch(indexed_workspace)
    assert len(second.embedded) == len(set(second.embedded)), "nothing twice"
    with indexed_workspace.retrieving() as search:
        assert search("fresh")[0].path == "new.md"
        passages = search("item1 edited", 60)
    assert {p.path for p in passages} == {f"{n}.md" for n in range(_DOCUMENTS) if n != 5} | {"new.md"}
    assert all(passage.similarity is not None for passage in passages)


def _crash_after_each_step(workspace: Workspace) -> Iterator[int]:
    """Crash and start again after one more step each time, until the old space is gone."""
    for number in range(200):
        yield number
        indexer = workspace.start()
        for _ in range(number % 4):
            indexer.follow_embedder()
        if number % 3 == 0:
            eventually(lambda indexer=indexer: not indexer.upkeep.is_compacting)  # type: ignore[misc]
            indexer.follow_embedder()
        workspace.crash()
        if _vectors(workspace).keys() == {"hash-b"} and _fingerprint(workspace) == "hash-b":
            return
    raise AssertionError("it never comes to an end")


def test_a_crash_at_any_step_loses_nothing_and_embeds_nothing_twice(indexed_workspace: Workspace) -> None:
    first, second = indexed_workspace.embedder, HashEmbedder("hash-b", 32)
    with indexed_workspace.retrieving() as search:
        expected = {p.chunk_id: p.similarity for p in search("item7", 50)}
    for _ in _crash_after_each_step(indexed_workspace):
        indexed_workspace.embedder = first if _fingerprint(indexed_workspace) == "hash-a" else second
        with indexed_workspace.retrieving() as search:
            passages = {p.chunk_id: p.similarity for p in search("item7", 50)}
        assert passages.keys() == expected.keys()
        if indexed_workspace.embedder is first:
            assert passages == expected
        assert None not in passages.values()
        indexed_workspace.embedder = second
    indexed_workspace.start()
    _complete_switch(indexed_workspace)
    assert len(second.embedded) == _DOCUMENTS
    assert _vectors(indexed_workspace) == {"hash-b": _DOCUMENTS}


def test_a_third_embedder_can_replace_the_second_during_its_switch(indexed_workspace: Workspace) -> None:
    indexed_workspace.embedder = HashEmbedder("hash-b", 32)
    indexed_workspace.start().follow_embedder()
    assert _vectors(indexed_workspace)["hash-b"] == 7
    indexed_workspace.embedder = HashEmbedder("hash-c", 16)
    indexed_workspace.start()
    _complete_switch(indexed_workspace)
    assert (_fingerprint(indexed_workspace), _vectors(indexed_workspace)) == ("hash-c", {"hash-c": _DOCUMENTS})


def test_the_first_embedder_can_return_during_a_switch(indexed_workspace: Workspace) -> None:
    first = indexed_workspace.embedder
    indexed_workspace.embedder = HashEmbedder("hash-b", 32)
    indexer = indexed_workspace.start()
    indexer.follow_embedder()
    indexed_workspace.write("3.md", "edited")
    indexer.scan()
    while indexer.work():
        pass
    indexed_workspace.embedder = first
    before = len(first.embedded)
    with indexed_workspace.running(), indexed_workspace.retrieving() as search:
        eventually(lambda: _vectors(indexed_workspace) == {"hash-a": _DOCUMENTS + 1})  # of what was edited, the old one
        assert first.embedded[before:] == ["edited"]
        eventually(lambda: search("edited")[0].similarity == pytest.approx(1, abs=1e-3))


def test_documents_are_cut_for_the_new_embedder_after_the_switch(indexed_workspace: Workspace) -> None:
    indexed_workspace.write("long.md", "one two three four five six seven eight nine ten " * 6)
    indexed_workspace.params = IndexingParams(settle_s=0.05, chunk_tokens=100)
    indexed_workspace.sync()
    cut = indexed_workspace.texts()["long.md"]

    class ByLetters(HashEmbedder):
        def count_tokens(self, text: str) -> int:
            return len(text)

    indexed_workspace.embedder = second = ByLetters("hash-b", 32)
    indexer = indexed_workspace.start()
    for _ in range(3):
        indexer.scan()
        indexer.work()
        indexer.follow_embedder()
        assert indexed_workspace.texts()["long.md"] == cut
    with indexed_workspace.running(), indexed_workspace.retrieving() as search:
        eventually(
            lambda: (
                _fingerprint(indexed_workspace) == "hash-b"
                and indexed_workspace.texts().get("long.md", "").count("\n") > 1
            )
        )
        eventually(lambda: indexed_workspace.status().pending == 0)
        assert all(passage.similarity is not None for passage in search("item7", 60))
    assert any(text.startswith("one") and len(text) <= 100 for text in second.embedded)


def test_the_progress_reports_how_far_a_switch_is(indexed_workspace: Workspace) -> None:
    reports: list[Progress] = []
    indexed_workspace.embedder = HashEmbedder("hash-b", 32)
    with indexed_workspace.running(report=reports.append):
        eventually(lambda: _fingerprint(indexed_workspace) == "hash-b")
        eventually(lambda: reports[-1].switch is None and reports[-1].activity == "idle")
    switches = [progress.switch for progress in reports if progress.switch]
    assert switches
    assert switches == sorted(switches, key=lambda switch: switch.done)
    assert {switch.total for switch in switches} == {_DOCUMENTS}
    assert any(progress.activity == "embedding" for progress in reports if progress.switch)


def test_a_switch_goes_on_when_its_snapshot_cannot_be_written(
    indexed_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Path:
        raise OSError("No space left on device")

    monkeypatch.setattr("index.dense.compaction.write_generation", refuse)
    indexed_workspace.embedder = HashEmbedder("hash-b", 32)
    indexed_workspace.start()
    _complete_switch(indexed_workspace)
    assert _fingerprint(indexed_workspace) == "hash-b"
    with indexed_workspace.retrieving() as search:
        assert search("item7")[0].path == "7.md"


def test_a_database_without_a_named_space_is_embedded_by_the_embedder(indexed_workspace: Workspace) -> None:
    assert indexed_workspace.writer is not None
    indexed_workspace.writer.connection.execute("DELETE FROM properties WHERE name IN ('space', 'other_spaces')")
    indexed_workspace.embedder = HashEmbedder("hash-b", 32)
    with indexed_workspace.running():
        assert _fingerprint(indexed_workspace) == "hash-b"
        eventually(lambda: _vectors(indexed_workspace) == {"hash-b": _DOCUMENTS})


def test_the_origin_of_the_vectors_is_stored(workspace: Workspace) -> None:
    workspace.start()
    assert workspace.writer is not None
    for origin in ("here", "there"):
        SpaceUpkeep(workspace.writer, workspace.data, workspace.embedder, origin)
        assert workspace.catalog.vector_space() == VectorSpace("hash-a", 64, origin)
