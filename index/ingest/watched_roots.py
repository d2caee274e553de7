"""The roots that are watched for file events, and when they must be watched anew."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from index.ingest.files import folder_identity
from index.ingest.watcher import has_events

WatchMode = Literal["auto", "events", "poll"]

_RETRY_EVENTS_S = 300.0  # after the system refused to report events


class WatchedRoots:
    """Owns the choice of roots to watch, and the identity that each of them had when its watch was set."""

    def __init__(self, mode: WatchMode) -> None:
        self._mode = mode
        self._roots: list[Path] = []
        self._chosen: list[Path] = []  # roots that should be watched; those that exist are
        self._watched: dict[Path, str] = {}  # identities by root
        self._retry_at: float | None = None  # when events are tried again, after the system refused them

    def follow(self, roots: Iterable[Path]) -> None:
        """Choose among these roots from now on; `are_current` says whether that changes what is watched."""
        self._roots = list(roots)
        self._choose()

    def renew(self) -> list[Path]:
        """Return the roots to watch now: those that exist, and whose file system reports events."""
        self._choose()
        self._watched = _identities(self._chosen)
        return list(self._watched)

    def are_current(self) -> bool:
        """Return whether the watches are still right: no root came, went or was replaced, and no retry is due."""
        is_retry_due = self._retry_at is not None and self._retry_at <= time.monotonic()
        return not is_retry_due and _identities(self._chosen) == self._watched

    def are_among(self, paths: set[Path]) -> bool:
        """Return whether one of these paths is a watched root, whose watch may be gone even if its inode is reused."""
        return not paths.isdisjoint(self._watched)

    def is_watched(self, root: Path) -> bool:
        return root in self._watched

    def postpone_events(self) -> None:
        """Watch nothing for some minutes, because the system refused to report events."""
        self._retry_at = time.monotonic() + _RETRY_EVENTS_S

    def _choose(self) -> None:
        if self._mode == "poll" or (self._retry_at is not None and time.monotonic() < self._retry_at):
            self._chosen = []
            return
        self._retry_at = None
        self._chosen = [root for root in self._roots if self._mode == "events" or has_events(root)]


def _identities(roots: Iterable[Path]) -> dict[Path, str]:
    """Return the identity of each root that exists: a folder made anew has another."""
    identities = {}
    for root in roots:
        try:
            identities[root] = folder_identity(root)
        except OSError:
            continue
    return identities
