"""The time of each collection's next scan."""

import time
from collections.abc import Callable, Iterable

from index.ingest.followed_collections import FollowedCollection

_SCAN_SHARE = 0.01  # the largest share of the time that periodic scans of a folder with events may take
_POLL_S = 2.0  # between two scans of a folder without reliable events
_POLL_SHARE = 0.05  # the largest share of the time that scans of such a folder may take
_RETRY_S = 5.0  # after a file could not be read for a reason that passes


class ScanSchedule:
    """Owns the time of each collection's next scan, and the set of collections that are polled.

    A collection is polled, that is scanned often, when a symbolic link may hide events of its files.
    """

    def __init__(self, scan_interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._scan_interval_s = scan_interval_s
        self._clock = clock
        self._scan_at: dict[FollowedCollection, float] = {}
        self._polled: set[FollowedCollection] = set()

    def follow(self, collections: Iterable[FollowedCollection]) -> None:
        """Schedule these collections, and no others, to be scanned at once."""
        self._scan_at = dict.fromkeys(collections, 0.0)

    def scan_soon(self, *collections: FollowedCollection, delay_s: float = 0.0) -> None:
        """Bring the next scan of these collections forward; a scan that is due earlier stays."""
        at = self._clock() + delay_s
        for collection in collections:
            self._scan_at[collection] = min(self._scan_at.get(collection, at), at)

    def retry_soon(self, *collections: FollowedCollection) -> None:
        """Scan these collections again in a few seconds, because a file in them could not be read for now."""
        self.scan_soon(*collections, delay_s=_RETRY_S)

    def poll(self, *collections: FollowedCollection) -> None:
        """Scan these collections often from now on, and once at once if they were not polled before."""
        self.scan_soon(*(collection for collection in collections if collection not in self._polled))
        self._polled.update(collections)

    def stop_polling(self) -> None:
        self._polled.clear()

    def due(self) -> list[FollowedCollection]:
        """Return the collections whose time has come. They stay due until `finish`."""
        now = self._clock()
        return [collection for collection, at in self._scan_at.items() if at <= now]

    def finish(self, collection: FollowedCollection, started: float, *, has_events: bool) -> None:
        """Schedule the next scan after one that began at `started`. The longer it took, the later the next."""
        now = self._clock()
        if has_events and collection not in self._polled:
            pause_s = max(self._scan_interval_s, (now - started) / _SCAN_SHARE)
        else:
            pause_s = max(min(_POLL_S, self._scan_interval_s), (now - started) / _POLL_SHARE)
        self._scan_at[collection] = now + pause_s

    def next_at(self) -> float | None:
        """Return when the next scan is due, or None without collections."""
        return min(self._scan_at.values(), default=None)
