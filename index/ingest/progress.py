"""What the indexer is doing now and how fast, told to whoever wants to know."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

Activity = Literal["idle", "scanning", "indexing", "embedding", "paused", "waiting"]

_WINDOW_S = 10.0  # over which rates are measured
_INTERVAL_S = 0.25  # between two reports


class Switch(msgspec.Struct, frozen=True):
    """How far another embedder is: chunks that have its vector, of all."""

    done: int
    total: int


class Progress(msgspec.Struct, tag=True, frozen=True):
    """`waiting`: it could not go on because of `error`, and tries again. `lag_s`: seconds since the index last was
    equal to the folders, as far as is known. `switch`: while another embedder takes the place of the one before."""

    activity: Activity = "idle"
    collection: str | None = None
    path: str | None = None
    files_per_s: float = 0.0
    bytes_per_s: float = 0.0
    lag_s: float = 0.0
    error: str | None = None
    switch: Switch | None = None


class ProgressReporter:
    """Counts what is done and reports, at most some times a second and only what is new."""

    def __init__(self, report: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._done: deque[tuple[float, int]] = deque()  # when, bytes
        self._behind_since: float | None = None
        self._switch: Switch | None = None
        self._told = Progress()
        self._told_at = -_INTERVAL_S

    def note_done(self, num_bytes: int) -> None:
        """One more file."""
        self._done.append((self._clock(), num_bytes))

    def note_backlog(self, has_work: bool) -> None:
        if not has_work:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = self._clock()

    def note_switch(self, switch: Switch | None) -> None:
        self._switch = switch

    def tell(
        self, activity: Activity, collection: str | None = None, path: str | None = None, error: str | None = None
    ) -> None:
        now = self._clock()
        is_new = (activity, error) != (self._told.activity, self._told.error)
        is_new |= (self._switch is None) != (self._told.switch is None)
        if not is_new and now - self._told_at < _INTERVAL_S:
            return
        while self._done and now - self._done[0][0] > _WINDOW_S:
            self._done.popleft()
        seconds = max(now - self._done[0][0], 1.0) if self._done else 1.0
        lag_s = 0.0 if self._behind_since is None else now - self._behind_since
        files_per_s, bytes_per_s = len(self._done) / seconds, sum(size for _, size in self._done) / seconds
        progress = Progress(
            *(activity, collection, path, round(files_per_s, 1), round(bytes_per_s), round(lag_s, 1), error),
            switch=self._switch,
        )
        if progress != self._told:
            self._told, self._told_at = progress, now
            self._report(progress)
