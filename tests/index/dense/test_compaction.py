from pathlib import Path

import pytest

from index.dense.compaction import Compaction, is_stale, vectors_folder
from index.dense.generations import read_newest
from index.dense.vector_index import VectorIndex
from index.storage.sqlite.vectors import VectorReader
from tests.index.conftest import Workspace


def _compaction(workspace: Workspace) -> Compaction:
    ((database,),) = workspace.rows("SELECT value FROM properties WHERE name = 'id'")
    return Compaction(workspace.data, workspace.embedder.fingerprint, workspace.embedder.dimension, str(database))


@pytest.fixture
def indexed_workspace(workspace: Workspace) -> Workspace:
    for number in range(30):
        workspace.write(f"{number}.md", f"item{number}")
    workspace.sync()
    return workspace


@pytest.mark.parametrize(
    ("num_changes", "num_chunks", "quiet", "at_work"),
    [
        (0, 0, False, False),
        (999, 0, False, False),
        (1000, 0, True, True),
        (1000, 49_000, True, False),
        (1000, 51_000, False, False),
        (20_000, 1_000_000, True, False),
        (100_000, 1_000_000, True, True),
    ],
    ids=str,
)
def test_a_generation_is_stale_by_share(num_changes: int, num_chunks: int, quiet: bool, at_work: bool) -> None:
    assert is_stale(num_changes, num_chunks, at_work=True) == at_work
    assert is_stale(num_changes, num_chunks) == quiet


def test_compaction_writes_the_whole_index(indexed_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.storage.sqlite.vectors._BLOCK", 7)
    compaction = _compaction(indexed_workspace)
    assert (compaction.seq, compaction.take_superseded_seq()) == (0, None)
    compaction.start()
    assert compaction.take_superseded_seq(wait=True) == 0, "there was none before"
    assert (compaction.seq, compaction.count) == (30, 30)
    compaction.close()
    assert _compaction(indexed_workspace).seq == 30
    ((database,),) = indexed_workspace.rows("SELECT value FROM properties WHERE name = 'id'")
    folder = vectors_folder(indexed_workspace.data, indexed_workspace.embedder.fingerprint)
    generation = read_newest(
        folder, str(database), indexed_workspace.embedder.fingerprint, indexed_workspace.embedder.dimension
    )
    assert generation is not None
    index = VectorIndex(indexed_workspace.embedder.dimension, generation.payload, generation.stored_vectors)
    assert {id for id in range(100) if id in index} == indexed_workspace.chunk_ids()
    (query,) = indexed_workspace.embedder.vectors(["item7"])
    ((expected,),) = indexed_workspace.rows("SELECT id FROM chunks WHERE text = 'item7'")
    ((id, cosine),) = index.search(query, 1)
    assert (id, cosine) == (expected, pytest.approx(1, abs=1e-3))
    index.close()


def test_a_compaction_that_cannot_be_written_is_logged_and_tried_again(
    indexed_workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = Path(indexed_workspace.data / "vectors")
    blocker.write_text("in the way")
    compaction = _compaction(indexed_workspace)
    compaction.start()
    assert compaction.take_superseded_seq(wait=True) is None
    assert "could not be written" in caplog.text
    blocker.unlink()
    compaction.start()
    assert compaction.take_superseded_seq(wait=True) == 0
    compaction.close()


def test_closing_abandons_the_generation_that_is_being_written(
    indexed_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compaction = _compaction(indexed_workspace)
    blocks = VectorReader.blocks

    def close_first(self: VectorReader) -> object:
        compaction._stop.set()
        return blocks(self)

    monkeypatch.setattr(VectorReader, "blocks", close_first)
    compaction.start()
    compaction.close()
    assert compaction.take_superseded_seq() is None
    assert not vectors_folder(indexed_workspace.data, indexed_workspace.embedder.fingerprint).exists()
