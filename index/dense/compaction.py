"""Writing a generation beside the work, so that a save is not kept waiting while a large one is made."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

from index.dense.generations import Header, newest_header, write_generation
from index.storage.sqlite.database import open_reader, query, snapshot
from index.storage.sqlite.vectors import VectorStore

_log = logging.getLogger(__name__)

_FEW = 1000  # changes that are replayed in no time
_SHARE, _SHARE_AT_WORK = 0.02, 0.1  # of all chunks: changes that make a generation due, in quiet times and always


def vectors_folder(data: Path, fingerprint: str) -> Path:
    """Where the generations of a vector space lie."""
    return data / "vectors" / fingerprint


def is_stale(num_changes: int, num_chunks: int, *, at_work: bool = False) -> bool:
    """Whether a generation that lacks so many changes of an index so large should be followed by another."""
    return num_changes >= max(_FEW, num_chunks * (_SHARE_AT_WORK if at_work else _SHARE))


class Compaction:
    """One generation at a time, on a thread with a reading connection of its own."""

    def __init__(self, data: Path, fingerprint: str, dimension: int, database: str) -> None:
        self._data = data
        self._space = fingerprint, dimension
        self._database = database
        self._stop = Event()
        self._thread = ThreadPoolExecutor(1, "compaction")
        self._running: Future[Header | None] | None = None
        newest = newest_header(vectors_folder(data, fingerprint), database, fingerprint, dimension)
        self.seq, self.count = (newest.seq, newest.count) if newest else (0, 0)

    def start(self) -> None:
        """Unless one is being written."""
        if self._running is None:
            self._running = self._thread.submit(self._write)

    @property
    def is_running(self) -> bool:
        return self._running is not None and not self._running.done()

    def finished(self, wait: bool = False) -> int | None:
        """The `seq` of the generation before, once a new one is there: changes up to it are needed no more."""
        if self._running is None or not (wait or self._running.done()):
            return None
        header, self._running = self._running.result(), None
        if header is None:
            return None
        before, self.seq, self.count = self.seq, header.seq, header.count
        return before

    def close(self) -> None:
        """What is being written is given up: the changes since the last generation are still there."""
        self._stop.set()
        self._thread.shutdown()

    def _write(self) -> Header | None:
        """What was written. Failing is harmless: the index is made from the database then."""
        connection = open_reader(self._data)
        try:
            with snapshot(connection):
                ((seq,),) = query(connection, "SELECT coalesce(max(seq), 0) FROM changes")
                built = VectorStore(connection, *self._space).build_base(lambda: not self._stop.is_set())
            if built is None:
                return None
            header = Header(self._database, *self._space, built.count, seq)
            with built:
                write_generation(vectors_folder(self._data, self._space[0]), header, built.payload(), built.stored())
        except OSError as error:
            _log.warning("the index snapshot could not be written: %s", error)
            return None
        finally:
            connection.close()
        return header
