from pathlib import Path

import pytest

from index.ingest.followed_collections import FollowedCollection
from index.ingest.scan_schedule import ScanSchedule

NOTES = FollowedCollection(1, "notes", Path("/notes"))
MAIL = FollowedCollection(2, "mail", Path("/mail"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def schedule(clock: Clock) -> ScanSchedule:
    schedule = ScanSchedule(60, clock)
    schedule.follow([NOTES, MAIL])
    return schedule


def test_followed_collections_are_due_at_once(schedule: ScanSchedule) -> None:
    assert schedule.due() == [NOTES, MAIL]


@pytest.mark.parametrize(
    ("duration_s", "has_events", "is_polled", "pause_s"),
    [
        (0.1, True, False, 60),  # the interval
        (3.0, True, False, 300),  # a scan takes at most 1 % of the time
        (0.05, False, False, 2),  # without events, folders are polled
        (3.0, False, False, 60),  # for at most 5 % of the time
        (0.05, True, True, 2),
    ],
)
def test_the_pause_after_a_scan_depends_on_its_duration_and_on_events(
    schedule: ScanSchedule, clock: Clock, duration_s: float, has_events: bool, is_polled: bool, pause_s: float
) -> None:
    if is_polled:
        schedule.poll(NOTES)
    started, clock.now = clock.now, clock.now + duration_s
    schedule.finish(MAIL, started - 1000, has_events=True)
    schedule.finish(NOTES, started, has_events=has_events)
    assert schedule.due() == []
    assert schedule.next_at() == pytest.approx(clock.now + pause_s)


def test_a_scan_is_brought_forward_and_never_put_off(schedule: ScanSchedule, clock: Clock) -> None:
    schedule.finish(NOTES, clock.now, has_events=True)
    schedule.finish(MAIL, clock.now, has_events=True)
    schedule.scan_soon(NOTES, delay_s=10)
    schedule.scan_soon(NOTES, delay_s=30)
    clock.now += 10
    assert schedule.due() == [NOTES]


def test_a_polled_collection_is_scanned_at_once_and_then_only_as_scheduled(
    schedule: ScanSchedule, clock: Clock
) -> None:
    schedule.finish(NOTES, clock.now, has_events=True)
    schedule.finish(MAIL, clock.now, has_events=True)
    schedule.poll(NOTES)
    assert schedule.due() == [NOTES]
    schedule.finish(NOTES, clock.now, has_events=True)
    schedule.poll(NOTES)
    assert schedule.due() == []
    schedule.stop_polling()
    schedule.poll(NOTES)
    assert schedule.due() == [NOTES]


def test_without_collections_nothing_is_due() -> None:
    assert ScanSchedule(60).next_at() is None
