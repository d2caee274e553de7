"""Writes generations on a thread of its own, so that no save waits while a large one is written."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

from index.dense.base_index import build_base
from index.dense.generations import Header, newest_header, write_generation
from index.storage.sqlite.reader import IndexReader

_log = logging.getLogger(__name__)

_FEW = 1000  # changes that are replayed in no time
_SHARE, _SHARE_AT_WORK = 0.02, 0.1  # of all chunks: changes that make a generation due, in quiet times and always


def vectors_folder(data: Path, fingerprint: str) -> Path:
    """Return the folder of the generations of a vector space."""
    return data / "vectors" / fingerprint


def is_stale(num_changes: int, num_chunks: int, *, at_work: bool = False) -> bool:
    """Return whether a generation should follow one that lacks `num_changes` of an index of `num_chunks`."""
    return num_changes >= max(_FEW, num_chunks * (_SHARE_AT_WORK if at_work else _SHARE))


class Compaction:
    """Writes one generation at a time, with a reading connection of its own.

    `seq` is the newest change in the newest generation, `count` the number of its vectors; 0 without a generation.
    """

    def __init__(self, data: Path, fingerprint: str, dimension: int, database: str) -> None:
        self._data = data
        self._database = database
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._folder = vectors_folder(data, fingerprint)
        self._stop = Event()
        self._thread = ThreadPoolExecutor(1, "compaction")
        self._running: Future[Header | None] | None = None
        newest = newest_header(self._folder, database, fingerprint, dimension)
        self.seq, self.count = (newest.seq, newest.count) if newest else (0, 0)

    def start(self) -> None:
        """Start writing a generation, unless one is being written."""
        if self._running is None:
            self._running = self._thread.submit(self._write)

    @property
    def is_running(self) -> bool:
        return self._running is not None and not self._running.done()

    def take_superseded_seq(self, wait: bool = False) -> int | None:
        """Return the `seq` of the generation before, once per new generation: the log needs no change up to it."""
        if self._running is None or not (wait or self._running.done()):
            return None
        header, self._running = self._running.result(), None
        if header is None:
            return None
        before, self.seq, self.count = self.seq, header.seq, header.count
        return before

    def close(self) -> None:
        """Abandon what is being written. The changes since the last generation are still in the log."""
        self._stop.set()
        self._thread.shutdown()

    def _write(self) -> Header | None:
        """Return the header of the generation that was written. None is harmless: the next reader builds its index
        from the database."""
        try:
            with closing(IndexReader(self._data)) as reader, reader.snapshot():
                seq = reader.change_bounds().newest
                vectors = reader.vectors(self._fingerprint, self._dimension)
                base = build_base(vectors, self._data, lambda: not self._stop.is_set())
            if base is None:
                return None
            with base:
                header = Header(self._database, self._fingerprint, self._dimension, base.count, seq)
                write_generation(self._folder, header, base.payload(), base.stored_vectors())
        except OSError as error:
            _log.warning("the index snapshot could not be written: %s", error)
            return None
        return header
