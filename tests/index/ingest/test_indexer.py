"""The indexer as a whole: collections, their status, and what can be found."""

from pathlib import Path

import pytest

from index.types import Collection
from tests.index.conftest import HashEmbedder, Workspace, eventually


def test_the_status_counts_documents_chunks_and_pending_files(workspace: Workspace) -> None:
    assert workspace.catalog.status() == []
    workspace.start()
    assert workspace.status().scanned_at is None
    workspace.write("a.md", "# A\n\none\n\n# B\n\ntwo")
    workspace.write("b.md", "three")
    workspace.write("c.md", b"\0")
    workspace.indexer.scan()
    status = workspace.status()
    assert (status.documents, status.chunks, status.pending, status.failed) == (0, 0, 3, [])
    assert (status.root, status.error, status.last_change) == (str(workspace.root), None, None)
    workspace.sync()
    status = workspace.status()
    assert (status.documents, status.chunks, status.pending) == (2, 3, 0)
    assert status.scanned_at is not None
    assert status.last_change is not None


def test_a_document_is_read_with_its_chunks_in_order(workspace: Workspace) -> None:
    assert workspace.catalog.read_document(1) is None
    workspace.write("a.md", "# A\n\none\n\n## B\n\ntwo\nthree")
    workspace.sync()
    document = workspace.catalog.read_document(1)
    assert document is not None
    assert (document.collection, document.path) == ("notes", "a.md")
    assert [(chunk.heading, chunk.text, chunk.line_from, chunk.line_to) for chunk in document.chunks] == [
        (("A",), "one", 3, 3),
        (("A", "B"), "two\nthree", 7, 8),
    ]
    assert workspace.catalog.read_document(2) is None


def test_the_topic_is_a_heading_or_else_a_file_name(workspace: Workspace) -> None:
    assert workspace.catalog.topic() is None
    workspace.write("travel policy.txt", "sixteen weeks")
    workspace.sync()
    assert workspace.catalog.topic() == "travel policy"
    workspace.write("leave.md", "# Handbook\n\n## Parental leave\n\nsixteen weeks")
    workspace.sync()
    assert workspace.catalog.topic() == "Parental leave"


def test_an_inactive_collection_is_hidden_and_embeds_nothing_when_it_comes_back(
    workspace: Workspace, tmp_path: Path
) -> None:
    notes, other = Collection("notes", workspace.root), Collection("other", tmp_path / "other")
    workspace.write("a.md", "kestrel one")
    workspace.write("b.md", "kestrel two", other.root)
    workspace.start(notes, other)
    workspace.sync()
    workspace.start(other)
    workspace.sync()
    with workspace.retrieving() as search:
        assert [passage.path for passage in search("kestrel")] == ["b.md"]
    assert [status.name for status in workspace.catalog.status()] == ["other"]
    assert workspace.catalog.read_document(1) is None
    workspace.start(notes, other)
    assert workspace.sync() == 0
    with workspace.retrieving() as search:
        assert {passage.path for passage in search("kestrel")} == {"a.md", "b.md"}


def test_a_folder_under_another_collection_name_embeds_nothing(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.sync()
    workspace.start(Collection("renamed", workspace.root))
    assert workspace.sync() == 0
    assert workspace.texts("renamed") == {"a.md": "one"}


def test_a_collection_with_another_root_has_that_folder_s_documents(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write("a.md", "one")
    workspace.write("b.md", "two")
    workspace.sync()
    workspace.write("a.md", "another one", tmp_path / "other")
    workspace.start(Collection("notes", tmp_path / "other"))
    workspace.sync()
    assert workspace.texts() == {"a.md": "another one"}


def test_collections_may_lie_within_each_other(workspace: Workspace) -> None:
    workspace.write("a.md", "one")
    workspace.write("inner/b.md", "two")
    workspace.start(Collection("notes", workspace.root), Collection("inner", workspace.root / "inner"))
    assert workspace.sync() == 2
    assert workspace.texts("notes") == {"a.md": "one", "inner/b.md": "two"}
    assert workspace.texts("inner") == {"b.md": "two"}


def test_another_embedder_embeds_every_chunk_again(workspace: Workspace) -> None:
    workspace.write("a.md", "kestrel")
    workspace.write("b.md", "pike")
    workspace.write("c.md", b"\0")
    workspace.sync()
    workspace.embedder = second = HashEmbedder("hash-b", 32)
    with workspace.running():
        eventually(lambda: (workspace.catalog.vector_space() or pytest.fail("no space")).fingerprint == "hash-b")
        eventually(lambda: workspace.status().documents == 2)  # files saved a moment ago are looked at again first
        assert sorted(second.embedded) == ["kestrel", "pike"]
        with workspace.retrieving() as search:
            (best, *_) = search("kestrel")
        assert best.path == "a.md"
        assert best.similarity == pytest.approx(1, abs=1e-3)


def test_chunk_ids_are_never_reused(workspace: Workspace) -> None:
    ids: set[int] = set()
    for text in ("one", "two", "one"):
        workspace.write("a.md", text)
        workspace.sync()
        assert ids.isdisjoint(workspace.chunk_ids())
        ids |= workspace.chunk_ids()
        workspace.start()
        (workspace.root / "a.md").unlink()
        workspace.sync()
    assert len(ids) == 3
