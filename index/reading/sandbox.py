"""Read untrusted files in throw-away children of a reader process.

Every file that native code parses gets a child of its own. Small text files share a child, some dozens of them, until
one of them cannot be read. A child that crashes, hangs, or takes too much costs one unreadable file. A reader process
that dies is started again, and the file that it had is tried once more.
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
from index.reading.process import ANSWER_HEADER, EXIT_STATUS, FILE_HEADER, ReadFailed, ReadSucceeded
from index.reading.readers import format_of
from index.types import ParsedDocument

_GRACE_S = 5.0  # beyond a child's own time limit, before it is killed with its reader process
_START_S = 60.0  # for the reader process to import all readers on a busy machine
_RECEIVE_BYTES = 1 << 20  # at once
_MAX_SHARING_BYTES = 1 << 20  # of a text file that may share a child
_MAX_FILES_PER_CHILD = 64
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT")  # passed on: nothing secret
_INVALID_ANSWER = "the reader returned nonsense for it"
_decoder = msgspec.msgpack.Decoder(ReadSucceeded | ReadFailed)


class _ProcessDied(Exception):
    """The reader process, not only its child, has ended or must be ended."""


class ReaderSandbox:
    """Reads one file at a time, called from one thread. Opened by `open_sandbox`."""

    def __init__(self, limits: ReadingLimits) -> None:
        self._limits = limits
        self._process: _ReaderProcess | None = None

    def read(self, path: str, content: bytes) -> ParsedDocument:
        """Return what the reader for this suffix makes of the content. `path` is not opened.

        Raises `UnreadableDocument` with a reason for a person.
        """
        for _ in range(2):
            try:
                self._process = self._process or self._start()
                return _check_blocks(self._process.read(path, content))
            except _ProcessDied:
                self.close()
        raise UnreadableDocument("the process that reads files ended twice over it")

    def _start(self) -> "_ReaderProcess":
        return _ReaderProcess(self._limits)

    @property
    def pid(self) -> int | None:
        """The reader process's id; None before the first file."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


@contextlib.contextmanager
def open_sandbox(limits: ReadingLimits | None = None) -> Iterator[ReaderSandbox]:
    """Open a sandbox, whose process starts with the first file. On leaving, the process and its child have ended."""
    sandbox = ReaderSandbox(limits or ReadingLimits())
    try:
        yield sandbox
    finally:
        sandbox.close()


class _ReaderProcess:
    """Owns the reader process, the control socket to it, and the socket to its present child."""

    def __init__(self, limits: ReadingLimits) -> None:
        self._limits = limits
        self._control, remote = socket.socketpair()
        self._has_answered = False
        self._child: socket.socket | None = None
        self._num_files = 0  # that the child has been given
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-P", "-m", "index.reading.process", str(remote.fileno()),
                    msgspec.json.encode(limits).decode(),
                ],
                pass_fds=[remote.fileno()],
                stdin=subprocess.DEVNULL,
                env={"HOME": "/nonexistent"} | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,
            )  # fmt: skip
        except OSError:
            self._control.close()
            raise
        finally:
            remote.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self, path: str, content: bytes) -> ReadSucceeded | ReadFailed:
        """Read a file in the present child or in a new one. Raises `_ProcessDied`."""
        deadline = time.monotonic() + self._limits.wall_s + _GRACE_S + (0 if self._has_answered else _START_S)
        may_share = format_of(path).is_plain and len(content) <= _MAX_SHARING_BYTES
        if self._child is not None and not (may_share and self._num_files < _MAX_FILES_PER_CHILD):
            self._end_child(deadline)
        if self._child is None:
            self._start_child()
        assert self._child is not None
        self._num_files += 1
        answer = self._exchange(self._child, path.encode(), content, deadline)
        self._has_answered = True
        if isinstance(answer, ReadSucceeded) and may_share:
            return answer
        exit_status = self._end_child(deadline)
        return answer or ReadFailed(self._exit_reason(exit_status))

    def _start_child(self) -> None:
        self._child, remote = socket.socketpair()
        self._num_files = 0
        with remote:
            try:
                socket.send_fds(self._control, [b"\0"], [remote.fileno()])
            except OSError as error:
                raise _ProcessDied from error

    def _exchange(
        self, child: socket.socket, path: bytes, content: bytes, deadline: float
    ) -> ReadSucceeded | ReadFailed | None:
        """Send the file and return the child's answer; None when the child died over it."""
        try:
            for part in (FILE_HEADER.pack(len(path), len(content)), path, content):
                child.settimeout(_remaining_s(deadline))
                child.sendall(part)
            (num_bytes,) = ANSWER_HEADER.unpack(_receive(child, ANSWER_HEADER.size, deadline))
            if num_bytes > self._limits.max_result_bytes(len(content)):
                return ReadFailed("it holds more text than is read of one file")
            answer: ReadSucceeded | ReadFailed = _decoder.decode(_receive(child, num_bytes, deadline))
            return answer
        except TimeoutError as error:
            raise _ProcessDied from error
        except (EOFError, OSError):
            return None
        except (msgspec.DecodeError, msgspec.ValidationError):
            return ReadFailed(_INVALID_ANSWER)

    def _end_child(self, deadline: float) -> int:
        """Close the child's socket and return its exit status: 0, its own, or minus a signal's number."""
        assert self._child is not None
        self._child.close()
        self._child = None
        try:
            (exit_status,) = EXIT_STATUS.unpack(_receive(self._control, EXIT_STATUS.size, deadline))
        except (EOFError, OSError) as error:
            raise _ProcessDied from error
        return int(exit_status)

    def _exit_reason(self, exit_status: int) -> str:
        if exit_status in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"reading it takes more than {self._limits.cpu_s} s of processor time, or more memory than there is"
        if exit_status == -signal.SIGALRM:
            return f"reading it takes longer than {self._limits.wall_s:.0f} s"
        if exit_status == -signal.SIGABRT:
            return f"the reader gave up on it, often for want of memory ({self._limits.memory_bytes >> 20:,} MiB)"
        if exit_status < 0:
            return f"the reader crashed on it ({signal.Signals(-exit_status).name})"
        return "the reader broke off"

    def close(self) -> None:
        """Kill the process and the child it may have."""
        self._control.close()
        if self._child is not None:
            self._child.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _receive(connection: socket.socket, size: int, deadline: float) -> bytearray:
    """Return exactly `size` bytes. Raises `EOFError` when fewer come, `TimeoutError` at the deadline, `OSError`."""
    received = bytearray()
    while len(received) < size:
        connection.settimeout(_remaining_s(deadline))
        piece = connection.recv(min(size - len(received), _RECEIVE_BYTES))
        if not piece:
            raise EOFError
        received += piece
    return received


def _remaining_s(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _check_blocks(answer: ReadSucceeded | ReadFailed) -> ParsedDocument:
    """Return the parsed text once its blocks are known to lie in it: a child is not to be trusted."""
    if isinstance(answer, ReadFailed):
        raise UnreadableDocument(answer.reason)
    parsed, last = answer.parsed, 0
    for block in parsed.blocks:
        start, end = block.lead or (0, 0)
        if not (last <= block.start < block.end <= len(parsed.text) and 0 <= start <= end <= block.end):
            raise UnreadableDocument(_INVALID_ANSWER)
        last = block.end
    return parsed
