"""Paths that were touched a moment ago and must rest before they are looked at."""

from collections.abc import Iterable
from typing import NamedTuple

from index.ingest.followed_collections import CollectionPath, FollowedCollection

MAX_UNSETTLED_S = 5.0  # a file that is written to without pause is looked at this often all the same


class _Touches(NamedTuple):
    """Times of the first and the last hint, in monotonic seconds."""

    first: float
    last: float


class SettleQueue:
    """Turns hints into paths that have settled. Does no I/O and reads no clock: times are passed in.

    A path has settled once nothing has touched it for `settle_s` seconds, or `MAX_UNSETTLED_S` after its first hint.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._touches: dict[CollectionPath, _Touches] = {}

    def __len__(self) -> int:
        return len(self._touches)

    def touch(self, path: CollectionPath, now: float) -> None:
        """Add a path that was hinted at; a further hint starts its rest again."""
        touches = self._touches.get(path)
        self._touches[path] = _Touches(touches.first if touches else now, now)

    def add(self, path: CollectionPath, now: float) -> None:
        """Add a path that a scan found; the rest of a path that is here already goes on."""
        self._touches.setdefault(path, _Touches(now, now))

    def take_settled(self, now: float) -> list[CollectionPath]:
        """Remove and return the paths that have settled, those touched first in front."""
        settled = [
            path
            for path, touches in self._touches.items()
            if now - touches.last >= self._settle_s or now - touches.first >= MAX_UNSETTLED_S
        ]
        for path in settled:
            del self._touches[path]
        return settled

    def next_settled_at(self) -> float | None:
        """Return when the next path will have settled if nothing touches it again, or None when there is no path."""
        last = min((touches.last for touches in self._touches.values()), default=None)
        return None if last is None else last + self._settle_s

    def keep_only(self, collections: Iterable[FollowedCollection]) -> None:
        """Drop the paths of all other collections."""
        kept_collections = set(collections)
        self._touches = {
            path: touches for path, touches in self._touches.items() if path.collection in kept_collections
        }
