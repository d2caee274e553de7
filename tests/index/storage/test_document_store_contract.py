"""The contract of `DocumentStore`."""

import numpy as np
import pytest

from index.embedded_text import content_hash
from index.storage.records import FileStat, VectorSpace
from index.types import Chunk, Collection
from tests.index.storage.contract import SPACE, Storage

FILE = FileStat(size=9, mtime_ns=1_000, ctime_ns=2_000, inode=3)


def test_a_document_is_known_with_the_stat_that_it_was_stored_with(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one", stat=FILE)
    known = storage.store.known_documents(storage.ids["handbook"])
    assert known.keys() == {"a.md"}
    assert (known["a.md"].stat, known["a.md"].state) == (FILE, "indexed")
    assert storage.store.known_documents(storage.ids["policies"]) == {}


def test_known_documents_are_those_at_a_path_and_below_it(storage: Storage) -> None:
    for path in ("a", "a/b", "a/b/c", "a.md", "ab", "a0"):
        storage.index_document("handbook", path, path)
    known = storage.store.known_documents(storage.ids["handbook"], "a")
    assert known.keys() == {"a", "a/b", "a/b/c"}


def test_a_document_that_is_replaced_has_only_its_new_chunks(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one", "two")
    id = storage.document_id("handbook", "a.md")
    before = storage.store.last_change()
    storage.index_document("handbook", "a.md", "three")
    assert storage.texts("handbook", "a.md") == ["three"]
    assert storage.document_id("handbook", "a.md") == id
    assert storage.store.last_change() > before


def test_a_pending_document_keeps_its_chunks_until_it_is_replaced(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one")
    storage.store.mark_pending(storage.ids["handbook"], [("a.md", FILE), ("b.md", FILE)])
    assert storage.states("handbook") == {"a.md": "pending", "b.md": "pending"}
    assert storage.texts("handbook", "a.md") == ["one"]
    storage.store.mark_unchanged([(storage.ids["handbook"], "a.md", FILE)])
    assert storage.states("handbook") == {"a.md": "indexed", "b.md": "pending"}


def test_a_failed_document_has_a_reason_and_no_chunks_and_can_be_tried_again(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one")
    storage.store.fail(storage.ids["handbook"], "a.md", FILE, "it is torn")
    storage.store.fail(storage.ids["handbook"], "b.md", FILE, "it is torn, too")
    first = storage.catalog.list_documents("handbook")[0]
    assert (first.state, first.error) == ("failed", "it is torn")
    assert storage.catalog.count_chunks([first.id]) == {}
    storage.store.retry_failed(storage.ids["handbook"], "b.md")
    assert storage.states("handbook") == {"a.md": "failed", "b.md": "pending"}
    storage.store.retry_failed(storage.ids["handbook"])
    assert storage.states("handbook") == {"a.md": "pending", "b.md": "pending"}


def test_documents_are_removed_with_their_chunks(storage: Storage) -> None:
    for path in ("a.md", "b.md"):
        storage.index_document("handbook", path, path)
    removed = storage.document_id("handbook", "a.md")
    storage.store.remove(storage.ids["handbook"], ["a.md", "never.md"])
    assert storage.states("handbook") == {"b.md": "indexed"}
    assert storage.catalog.read_texts(removed) == []


def test_a_collection_that_is_not_configured_is_hidden_and_comes_back_as_it_was(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one")
    storage.store.configure([Collection("policies", storage.roots["policies"])])
    assert storage.catalog.list_documents("handbook") == []
    storage.store.configure([Collection(name, root) for name, root in storage.roots.items()])
    assert storage.texts("handbook", "a.md") == ["one"]


def test_the_identity_of_a_folder_is_that_of_its_last_scan(storage: Storage) -> None:
    handbook = storage.ids["handbook"]
    assert storage.store.identity(handbook) is None
    storage.store.record_scan(handbook, None, "disk 1")
    storage.store.record_scan(handbook, "it is gone")
    assert storage.store.identity(handbook) == "disk 1"
    assert storage.catalog.status()[0].error == "it is gone"
    storage.store.configure([Collection("handbook", storage.roots["policies"])])
    assert storage.store.identity(handbook) is None, "another folder"


def test_documents_that_are_missing_are_counted_from_the_first_time_on(storage: Storage) -> None:
    handbook = storage.ids["handbook"]
    assert storage.store.record_missing(handbook, 3) >= 0
    since = storage.catalog.status()[0].missing_since
    storage.store.record_missing(handbook, 4)
    status = storage.catalog.status()[0]
    assert (status.missing, status.missing_since) == (4, since)
    storage.store.record_missing(handbook, 0)
    status = storage.catalog.status()[0]
    assert (status.missing, status.missing_since) == (0, None)


def test_a_pause_and_the_id_of_the_store_outlast_a_restart(storage: Storage) -> None:
    id = storage.store.database_id()
    storage.store.pause(True)
    storage.reopen()
    assert (storage.store.is_paused(), storage.store.database_id()) == (True, id)
    storage.store.pause(False)
    assert not storage.store.is_paused()


def test_another_rule_of_chunking_makes_all_documents_pending(storage: Storage) -> None:
    storage.store.invalidate_other_chunking("128 tokens")
    storage.index_document("handbook", "a.md", "one")
    storage.store.invalidate_other_chunking("128 tokens")
    assert storage.states("handbook") == {"a.md": "indexed"}
    storage.store.invalidate_other_chunking("64 tokens")
    assert storage.states("handbook") == {"a.md": "pending"}


def test_vectors_are_shared_by_content_and_deleted_when_no_chunk_has_it(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one")
    hash = content_hash(Chunk("one", ("Part 1",), 0, 3, 1, 1))
    assert storage.store.missing_vectors([hash, b"other"], SPACE) == {b"other"}
    assert storage.store.missing_vectors([hash], "other space") == {hash}
    storage.index_document("policies", "b.md", "one")
    storage.store.remove(storage.ids["handbook"], ["a.md"])
    storage.store.delete_unused_vectors()
    assert storage.store.missing_vectors([hash], SPACE) == set()
    storage.store.remove(storage.ids["policies"], ["b.md"])
    storage.store.delete_unused_vectors()
    assert storage.store.missing_vectors([hash], SPACE) == {hash}


def test_documents_with_a_chunk_without_a_vector_become_pending(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one")
    storage.store.invalidate_unembedded(SPACE)
    assert storage.states("handbook") == {"a.md": "indexed"}
    storage.store.invalidate_unembedded("other space")
    assert storage.states("handbook") == {"a.md": "pending"}


def test_a_space_is_switched_to_when_every_chunk_has_a_vector_in_it(storage: Storage) -> None:
    spaces, first, second = storage.store.vector_spaces, VectorSpace(SPACE, 3), VectorSpace("second", 3, "its model")
    assert (spaces.current(), spaces.has_vectors(), spaces.has_others()) == (None, False, False)
    spaces.start(first, is_current=True, has_others=False)
    storage.index_document("handbook", "a.md", "one", "two")
    spaces.start(second, is_current=False, has_others=True)
    assert (spaces.current(), spaces.has_others(), storage.catalog.vector_space()) == (first, True, first)
    (chunk, *_) = chunks = spaces.chunks_without_vector("second", 0, 10)
    assert [chunk.text for chunk in chunks] == ["Part 1: one", "Part 2: two"]
    assert [each.id for each in spaces.chunks_without_vector("second", chunk.id, 10)] == [chunks[1].id]
    storage.store.store_vectors("second", [each.content_hash for each in chunks], np.eye(2, 3, dtype=np.float32))
    assert (spaces.count_chunks(), spaces.count_chunks_without_vector("second")) == (2, 0)
    spaces.switch_to(second)
    assert storage.catalog.vector_space() == second
    spaces.remove_others("second", 0, spaces.newest_vector_id())
    spaces.note_others_removed()
    assert not spaces.has_others()
    assert storage.store.missing_vectors([chunk.content_hash], SPACE) == {chunk.content_hash}
    assert storage.store.missing_vectors([chunk.content_hash], "second") == set()


def test_the_newest_change_stays_when_the_log_is_trimmed(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one", "two")
    newest = storage.store.last_change()
    storage.store.trim_changes(newest)
    assert storage.store.last_change() == newest


def test_the_lexical_index_takes_in_all_changes(storage: Storage) -> None:
    storage.index_document("handbook", "a.md", "one", "two")
    index = storage.store.lexical_index
    for _ in range(100):
        if not index.advance():
            break
    else:
        pytest.fail("it has always more to do")
    assert index.seq in (None, storage.store.last_change())
