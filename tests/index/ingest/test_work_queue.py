from pathlib import Path

from index.ingest.followed_collections import CollectionPath, FollowedCollection
from index.ingest.work_queue import WorkQueue

NOTES = FollowedCollection(1, "notes", Path("/notes"))
MAIL = FollowedCollection(2, "mail", Path("/mail"))
A, B, C = (CollectionPath(NOTES, name) for name in ("a.md", "b.md", "c.md"))


def test_files_are_taken_in_order_once_each_and_fresh_ones_first() -> None:
    queue = WorkQueue()
    for file in (A, B, A):
        queue.add(file)
    queue.add(C, front=True)
    assert queue.take(2) == [C, A]
    assert queue.take(2) == [B]
    assert queue.take(2) == []


def test_a_file_stays_touched_until_it_is_taken() -> None:
    queue = WorkQueue()
    queue.mark_touched(A)
    queue.add(A)
    queue.clear()
    assert queue.touched_paths(NOTES) == {A.path}
    queue.add(A)
    queue.take(1)
    assert queue.touched_paths(NOTES) == set()


def test_files_of_collections_that_are_not_followed_any_more_are_dropped() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(CollectionPath(MAIL, "a.md"))
    elsewhere = FollowedCollection(1, "notes", Path("/elsewhere"))
    queue.keep_only([elsewhere, MAIL])
    assert queue.take(5) == [CollectionPath(MAIL, "a.md")]
