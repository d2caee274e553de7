"""Reading files that are not to be trusted, in throw-away children of a process of its own.

Every file that native code parses gets a child to itself; small text files share one, some dozens of them, until one
of them cannot be read. A child that crashes, hangs, or takes too much is one unreadable file. A reader process that
dies is started again, and the file it had is tried once more.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec

from index.errors import UnreadableDocument
from index.reading.confinement import ReadingLimits
from index.reading.process import ANSWER, ENDED, FILE, Read, Unreadable, most_result_bytes
from index.reading.readers import is_plain
from index.types import Parsed

_GRACE_S = 5.0  # beyond its own limit, before a child that does not end is killed with the process above it
_START_S = 60.0  # for the process to import all readers, on a machine that is busy with other things
_PIECE = 1 << 20
_SMALL = 1 << 20  # bytes of a text file that may share a child
_SHARED = 64  # files a child reads at most
_KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT")  # of the environment: nothing secret
_decoder = msgspec.msgpack.Decoder(Read | Unreadable)


class _ProcessGone(Exception):
    """The reader process, not only its child, has ended or had to be."""


class ReaderSandbox:
    """One file at a time, from one thread. Made by `open_sandbox`."""

    def __init__(self, limits: ReadingLimits) -> None:
        self._limits = limits
        self._process: _ReaderProcess | None = None

    def read(self, path: str, content: bytes) -> Parsed:
        """Raises `UnreadableDocument` with a reason for a person. `path` chooses the reader; nothing is opened."""
        for _ in range(2):
            try:
                self._process = self._process or self._start()
                return _checked(self._process.read(path, content))
            except _ProcessGone:
                self.close()
        raise UnreadableDocument("the process that reads files ended twice over it")

    def _start(self) -> "_ReaderProcess":
        return _ReaderProcess(self._limits)

    @property
    def pid(self) -> int | None:
        """Of the process above the children; None before the first file."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


@contextlib.contextmanager
def open_sandbox(limits: ReadingLimits | None = None) -> Iterator[ReaderSandbox]:
    """The process is started with the first file; on leaving, it and its child have ended."""
    reading = ReaderSandbox(limits or ReadingLimits())
    try:
        yield reading
    finally:
        reading.close()


class _ReaderProcess:
    def __init__(self, limits: ReadingLimits) -> None:
        self._limits = limits
        self._control, theirs = socket.socketpair()
        self._has_answered = False
        self._child: socket.socket | None = None
        self._num_read = 0  # files the child has been given
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-P", "-m", "index.reading.process", str(theirs.fileno()),
                    msgspec.json.encode(limits).decode(),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={"HOME": "/nonexistent"} | {name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,
            )  # fmt: skip
        except OSError:
            self._control.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self, path: str, content: bytes) -> Read | Unreadable:
        deadline = time.monotonic() + self._limits.wall_s + _GRACE_S + (0 if self._has_answered else _START_S)
        may_share = is_plain(path) and len(content) <= _SMALL
        if self._child is not None and not (may_share and self._num_read < _SHARED):
            self._end_child(deadline)
        if self._child is None:
            self._start_child()
        assert self._child is not None
        self._num_read += 1
        answer = self._exchange(self._child, path.encode(), content, deadline)
        self._has_answered = True
        if isinstance(answer, Read) and may_share:
            return answer
        ended = self._end_child(deadline)
        return answer or Unreadable(self._exit_reason(ended))

    def _start_child(self) -> None:
        self._child, theirs = socket.socketpair()
        self._num_read = 0
        with theirs:
            try:
                socket.send_fds(self._control, [b"\0"], [theirs.fileno()])
            except OSError as error:
                raise _ProcessGone from error

    def _exchange(self, child: socket.socket, path: bytes, content: bytes, deadline: float) -> Read | Unreadable | None:
        """The child's answer; None when it died over the file."""
        limit = most_result_bytes(self._limits, len(content))
        try:
            for part in (FILE.pack(len(path), len(content)), path, content):
                child.settimeout(_left(deadline))
                child.sendall(part)
            (size,) = ANSWER.unpack(_receive(child, ANSWER.size, deadline))
            if size > limit:
                return Unreadable("it holds more text than is read of one file")
            told: Read | Unreadable = _decoder.decode(_receive(child, size, deadline))
            return told
        except TimeoutError as error:
            raise _ProcessGone from error
        except (EOFError, OSError):
            return None
        except (msgspec.DecodeError, msgspec.ValidationError):
            return Unreadable("the reader told nonsense of it")

    def _end_child(self, deadline: float) -> int:
        """How it ended: 0, its status, or minus a signal."""
        assert self._child is not None
        self._child.close()
        self._child = None
        try:
            (ended,) = ENDED.unpack(_receive(self._control, ENDED.size, deadline))
        except (EOFError, OSError) as error:
            raise _ProcessGone from error
        return int(ended)

    def _exit_reason(self, ended: int) -> str:
        if ended in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"reading it takes more than {self._limits.cpu_s} s of processor time, or more memory than there is"
        if ended == -signal.SIGALRM:
            return f"reading it takes longer than {self._limits.wall_s:.0f} s"
        if ended == -signal.SIGABRT:
            return f"the reader gave up on it, often for want of memory ({self._limits.memory_bytes >> 20:,} MiB)"
        if ended < 0:
            return f"the reader crashed on it ({signal.Signals(-ended).name})"
        return "the reader broke off"

    def close(self) -> None:
        """Ends the process and the child it may have, whatever they do."""
        self._control.close()
        if self._child is not None:
            self._child.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _receive(connection: socket.socket, size: int, deadline: float) -> bytearray:
    """Exactly `size` bytes. Raises `EOFError` when fewer come, `TimeoutError` at the deadline, `OSError`."""
    received = bytearray()
    while len(received) < size:
        connection.settimeout(_left(deadline))
        piece = connection.recv(min(size - len(received), _PIECE))
        if not piece:
            raise EOFError
        received += piece
    return received


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _checked(answer: Read | Unreadable) -> Parsed:
    """What a child says of the blocks is not to be trusted either."""
    if isinstance(answer, Unreadable):
        raise UnreadableDocument(answer.reason)
    parsed, last = answer.parsed, 0
    for block in parsed.blocks:
        start, end = block.lead or (0, 0)
        if not (last <= block.start < block.end <= len(parsed.text) and 0 <= start <= end <= block.end):
            raise UnreadableDocument("the reader told nonsense of it")
        last = block.end
    return parsed
