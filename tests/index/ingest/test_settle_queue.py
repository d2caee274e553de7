"""Paths settle before they are examined; time is passed in, so no test waits."""

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.ingest.followed_collections import CollectionPath, FollowedCollection
from index.ingest.settle_queue import MAX_UNSETTLED_S, SettleQueue
from tests.index.conftest import unhurried

SETTLE_S = 0.5
NOTES = FollowedCollection(1, "notes", Path("/notes"))
MAIL = FollowedCollection(2, "mail", Path("/mail"))
A, B = CollectionPath(NOTES, "a.md"), CollectionPath(MAIL, "b.md")


@pytest.mark.parametrize(
    ("touches", "now", "is_settled"),
    [
        ([0.0], 0.4, False),
        ([0.0], 0.5, True),
        ([0.0, 0.3], 0.7, False),
        ([0.0, 0.3], 0.8, True),
        ([number / 10 for number in range(50)], 4.95, False),
        ([number / 10 for number in range(51)], MAX_UNSETTLED_S, True),
    ],
)
def test_a_path_settles_when_nothing_touches_it_for_a_while_or_after_a_long_wait(
    touches: list[float], now: float, is_settled: bool
) -> None:
    queue = SettleQueue(SETTLE_S)
    for at in touches:
        queue.touch(A, at)
    assert queue.take_settled(now) == ([A] if is_settled else [])
    assert len(queue) == (0 if is_settled else 1)


def test_a_path_added_by_a_scan_does_not_start_settling_again() -> None:
    queue = SettleQueue(SETTLE_S)
    queue.touch(A, 0.0)
    queue.add(A, 0.4)
    queue.add(B, 0.4)
    assert queue.take_settled(0.5) == [A]
    assert queue.take_settled(0.9) == [B]


def test_the_queue_returns_when_its_next_path_settles() -> None:
    queue = SettleQueue(SETTLE_S)
    assert queue.next_settled_at() is None
    queue.touch(A, 1.0)
    queue.touch(B, 2.0)
    assert queue.next_settled_at() == 1.5
    queue.touch(A, 3.0)
    assert queue.next_settled_at() == 2.5


def test_paths_of_collections_that_are_not_followed_any_more_are_dropped() -> None:
    queue = SettleQueue(SETTLE_S)
    queue.touch(A, 0.0)
    queue.touch(B, 0.0)
    queue.keep_only([MAIL])
    assert queue.take_settled(10.0) == [B]


class Touch(NamedTuple):
    path: CollectionPath
    pause_s: float  # since the event before


class Take(NamedTuple):
    pause_s: float


_pauses = st.integers(0, 32).map(lambda sixteenths: sixteenths / 16)  # exact as floats
_events = st.lists(st.builds(Touch, st.sampled_from([A, B]), _pauses) | st.builds(Take, _pauses), max_size=60)


@unhurried
@given(_events)
def test_every_touched_path_is_taken_once_and_neither_early_nor_late(events: list[Touch | Take]) -> None:
    queue, now = SettleQueue(SETTLE_S), 0.0
    touches: dict[CollectionPath, list[float]] = {}
    for event in events:
        now += event.pause_s
        if isinstance(event, Touch):
            queue.touch(event.path, now)
            touches.setdefault(event.path, []).append(now)
            continue
        settled = queue.take_settled(now)
        assert len(settled) == len(set(settled))
        for path in settled:
            first, *_, last = [*touches[path], touches[path][-1]]
            assert now - last >= SETTLE_S or now - first >= MAX_UNSETTLED_S
            del touches[path]
        for first, *_, last in ([*times, times[-1]] for times in touches.values()):
            assert now - last < SETTLE_S and now - first < MAX_UNSETTLED_S
    assert len(queue) == len(touches)
    assert set(queue.take_settled(now + SETTLE_S)) <= touches.keys()
    assert len(queue) == 0
