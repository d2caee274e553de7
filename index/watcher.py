"""Hints that something changed in the watched folders, from watchfiles on a thread of its own.

Only hints: the operating system drops events silently when its queue overflows. The indexer's scans are the truth.
"""

import logging
import queue
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import watchfiles

_log = logging.getLogger(__name__)
_STEP_MS = 50
_DEBOUNCE_MS = 200
_BEAT_MS = 500  # how soon after the start it is known that the watches are set


class Watcher:
    """Watches the roots that exist. A context manager: leaving it ends the thread."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = list(roots)
        self._hints: queue.SimpleQueue[set[Path]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        if self._roots:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether it watches. False once it has failed (a root vanished, say): scan, and open another."""
        return self._thread.is_alive() or not self._roots

    @property
    def is_ready(self) -> bool:
        """Whether changes from now on are told: setting the watches takes a while on large folders."""
        return self._ready.is_set() or not self._roots

    def take(self, timeout_s: float) -> set[Path]:
        """Absolute paths that may have changed, waiting up to `timeout_s` for the first."""
        paths: set[Path] = set()
        try:
            paths |= self._hints.get(timeout=timeout_s) if timeout_s > 0 else self._hints.get_nowait()
            while True:
                paths |= self._hints.get_nowait()
        except queue.Empty:
            return paths

    def _watch(self) -> None:
        for force_polling in (None, True):  # polling where the system's own watches have run out
            try:
                for changes in watchfiles.watch(
                    *self._roots,
                    watch_filter=None,
                    debounce=_DEBOUNCE_MS,
                    step=_STEP_MS,
                    stop_event=self._stop,
                    force_polling=force_polling,
                    rust_timeout=_BEAT_MS,
                    yield_on_timeout=True,
                    raise_interrupt=False,
                    ignore_permission_denied=True,
                ):
                    self._ready.set()
                    if changes:
                        self._hints.put({Path(path) for _, path in changes})
            except OSError as error:
                _log.warning("watching by events failed (%s)%s", error, "" if force_polling else "; polling instead")
            else:
                return
