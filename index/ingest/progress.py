"""Reports what the indexer is doing now, and how fast."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

Activity = Literal["idle", "scanning", "indexing", "embedding", "paused", "waiting"]

_WINDOW_S = 10.0  # over which rates are measured
_INTERVAL_S = 0.25  # between two reports


class SpaceSwitch(msgspec.Struct, frozen=True):
    """The progress of a switch to another embedder: `done` of `total` chunks have its vector."""

    done: int
    total: int


class Progress(msgspec.Struct, tag=True, frozen=True):
    """A report of the indexer's work.

    `waiting`: it could not go on because of `error`, and tries again. `lag_s`: seconds since the index was last equal
    to the folders, as far as is known. `switch` is set while another embedder's space is being built.
    """

    activity: Activity = "idle"
    collection: str | None = None
    path: str | None = None
    files_per_s: float = 0.0
    bytes_per_s: float = 0.0
    lag_s: float = 0.0
    error: str | None = None
    switch: SpaceSwitch | None = None

    def seen_by(self, collections: frozenset[str] | None) -> "Progress":
        """Return the progress as whoever may see only these collections (None: all) is shown it.

        Names, rates and lag are those of the whole index, so they are shown only while one of these collections is
        worked on; work on another looks idle. What stops all work, a pause or an error of the storage, is shown.
        """
        if collections is None or self.collection in collections:
            return self if collections is None else msgspec.structs.replace(self, switch=None)
        activity: Activity = "idle" if self.activity in ("scanning", "indexing") else self.activity
        return Progress(activity=activity, error=self.error)


class ProgressReporter:
    """Counts the files that are indexed, and reports only what is new, a few times a second at most."""

    def __init__(self, send: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._files: deque[tuple[float, int]] = deque()  # time of each indexed file, and its bytes
        self._behind_since: float | None = None
        self._switch: SpaceSwitch | None = None
        self._last = Progress()
        self._last_at = -_INTERVAL_S

    def count_file(self, num_bytes: int) -> None:
        """Count one more indexed file."""
        self._files.append((self._clock(), num_bytes))

    def note_backlog(self, has_backlog: bool) -> None:
        """Note whether files are known to wait, which is what the lag is measured by."""
        if not has_backlog:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = self._clock()

    def note_switch(self, switch: SpaceSwitch | None) -> None:
        self._switch = switch

    def report(
        self, activity: Activity, collection: str | None = None, path: str | None = None, error: str | None = None
    ) -> None:
        """Send the progress: at once when the activity or the error is another, else at intervals."""
        now = self._clock()
        is_new = (activity, error) != (self._last.activity, self._last.error)
        is_new |= (self._switch is None) != (self._last.switch is None)
        if not is_new and now - self._last_at < _INTERVAL_S:
            return
        files_per_s, bytes_per_s = self._rates(now)
        progress = Progress(
            activity=activity,
            collection=collection,
            path=path,
            files_per_s=round(files_per_s, 1),
            bytes_per_s=round(bytes_per_s),
            lag_s=0.0 if self._behind_since is None else round(now - self._behind_since, 1),
            error=error,
            switch=self._switch,
        )
        if progress != self._last:
            self._last, self._last_at = progress, now
            self._send(progress)

    def _rates(self, now: float) -> tuple[float, float]:
        """Return files and bytes per second over the last `_WINDOW_S`."""
        while self._files and now - self._files[0][0] > _WINDOW_S:
            self._files.popleft()
        seconds = max(now - self._files[0][0], 1.0) if self._files else 1.0
        return len(self._files) / seconds, sum(size for _, size in self._files) / seconds
