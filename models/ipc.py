"""Frames between a parent and its child processes: `msgspec.msgpack` Structs over an inherited socket pair.

A socket pair needs no path, no port and no connect(): nothing on the machine but the two ends can speak on it, a
dead child is an end of file at the parent, and a dead parent, even after kill -9, is an end of file at the child,
which then exits. So there is never an orphan to hunt. POSIX only (Linux, macOS).

A frame is a 4-byte big-endian length and that many bytes of msgpack.
"""

import asyncio
import contextlib
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from models.core_dumps import disable_core_dumps
from models.errors import ProcessFailed
from models.logs import OWN_PACKAGES, LogConfig, configure_logging

_LENGTH = struct.Struct(">I")
_MAX_FRAME = 256 << 20
_encoder = msgspec.msgpack.Encoder()

In = TypeVar("In")


def _frame(message: msgspec.Struct) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class ChildFailure(msgspec.Struct, tag=True, frozen=True):
    """A child's last frame when it cannot start, or cannot go on: one line for a person."""

    reason: str


class Inbox(Generic[In]):
    """The child's end. A thread reads frames; the main thread takes them and sends its own.

    After `closed` is set the parent is gone or wants the child to end.
    """

    def __init__(self, sock: socket.socket, message_type: Any) -> None:
        self._sock = sock
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(message_type)
        self._frames: queue.SimpleQueue[In | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self.closed = threading.Event()
        self.has_sent = False
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def _read(self) -> None:
        cut_short = OSError, struct.error, msgspec.DecodeError
        with contextlib.suppress(*cut_short), self._sock.makefile("rb") as stream:
            while head := stream.read(_LENGTH.size):
                (size,) = _LENGTH.unpack(head)
                self._frames.put(self._decoder.decode(stream.read(size)))
        self.closed.set()
        self._frames.put(None)

    def send(self, message: msgspec.Struct) -> None:
        """Blocks until the parent has taken the bytes; a parent that is gone is not an error here."""
        self.has_sent = True
        with self._sending, contextlib.suppress(OSError):
            self._sock.sendall(_frame(message))

    def post(self, message: In) -> None:
        """Puts a message of this process's own among those that come; from any thread."""
        self._frames.put(message)

    def take(self, timeout: float | None = 0) -> list[In] | None:
        """Every frame that has come, waiting up to `timeout` seconds (None: for ever) for the first.

        None once the parent has closed its end.
        """
        frames: list[In] = []
        try:
            frame = self._frames.get(timeout=timeout) if timeout != 0 else self._frames.get_nowait()
            while frame is not None:
                frames.append(frame)
                frame = self._frames.get_nowait()
        except queue.Empty:
            return frames
        self._frames.put(None)  # stays closed for the next call
        return frames or None

    def __iter__(self) -> Iterator[In]:
        """Frames one by one until the parent closes."""
        while (frame := self._frames.get()) is not None:
            yield frame


def child_main(main: Callable[[Inbox[Any]], None], message_type: Any) -> None:
    """The body of `python -m <module> FD MANNER`: run `main` until the parent closes its end. `MANNER`: how it logs.

    Ctrl-C is the parent's to handle: it closes the socket, and the child ends by itself. What `main` raises becomes
    one `ChildFailure` frame, never a traceback on a user's screen.
    """
    disable_core_dumps()
    configure_logging(msgspec.json.decode(sys.argv[2], type=LogConfig))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox: Inbox[Any] = Inbox(socket.socket(fileno=int(sys.argv[1])), message_type)
    threading.Thread(target=_leave_after, args=(inbox.closed, 10.0), daemon=True).start()
    status = 0
    try:
        main(inbox)
    except Exception as error:  # the process boundary: whatever it was, the parent is told and the process ends
        inbox.send(ChildFailure(reason=_reason(error, is_loading=not inbox.has_sent)))
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # native thread pools (OpenMP, torch) may hang in exit handlers; nothing is left to clean


def _reason(error: Exception, *, is_loading: bool) -> str:
    """One line. Once there is content at hand, in others' words only of what kind it is."""
    is_known = isinstance(error, OSError) or type(error).__module__.partition(".")[0] in OWN_PACKAGES
    words = str(error).splitlines() if is_loading or is_known else []
    return words[0] if words else type(error).__name__


def _leave_after(closed: threading.Event, grace_s: float) -> None:
    """Ends a child that does not come back from native code within `grace_s` of its parent's going."""
    closed.wait()
    threading.Event().wait(grace_s)
    os._exit(1)


class Child(Generic[In]):
    """The parent's end: one running child process and the frames to and from it. Owned by whoever opened it."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        message_type: Any,
    ) -> None:
        self.name = name
        self._process = process
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(message_type)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def send(self, message: msgspec.Struct) -> None:
        """Raises `ProcessFailed` when the child is gone."""
        try:
            self._writer.write(_frame(message))
            await self._writer.drain()
        except OSError as error:
            raise ProcessFailed(self.name, "the process has ended") from error

    def send_soon(self, message: msgspec.Struct) -> None:
        """For a cancellation, which must not wait; lost when the child is gone, and then not needed."""
        if not self._writer.is_closing():
            self._writer.write(_frame(message))

    async def frames(self) -> AsyncIterator[In]:
        """Every frame until the child ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if size > _MAX_FRAME:
                    return
                yield self._decoder.decode(await self._reader.readexactly(size))

    async def receive(self) -> In:
        """The next frame; `ProcessFailed` when the child ended instead."""
        async for frame in self.frames():
            return frame
        raise ProcessFailed(self.name, self._exit_reason(await self._wait(5.0)))

    async def exit_reason(self) -> str:
        return self._exit_reason(await self._wait(5.0))

    async def _wait(self, timeout_s: float) -> int | None:
        for _ in range(int(timeout_s / 0.02)):
            if (status := self._process.poll()) is not None:
                return status
            await asyncio.sleep(0.02)
        return self._process.poll()

    @staticmethod
    def _exit_reason(status: int | None) -> str:
        if status is None:
            return "the process closed its connection"
        if status < 0:
            return f"the process was ended by {signal.Signals(-status).name}"
        return f"the process ended with status {status}"

    async def close(self, grace_s: float = 5.0) -> None:
        """Closes the connection, which asks the child to end; kills it after `grace_s`."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), grace_s)
        except (OSError, TimeoutError):
            self._writer.transport.abort()
        if await self._wait(grace_s) is None:
            self._process.kill()
            await self._wait(5.0)


def _spawn(module: str, theirs: socket.socket, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    manner = msgspec.json.encode(LogConfig.of_this_process()).decode()
    return subprocess.Popen(
        # -P: not the user's folder's `models`
        [sys.executable, "-P", "-m", module, str(theirs.fileno()), manner],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
        start_new_session=True,
    )


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Returns when the work is done, however often it is cancelled meanwhile; then passes that on."""
    working = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError as error:
            cancelled = error
    working.result()
    if cancelled is not None:
        raise cancelled


@contextlib.asynccontextmanager
async def open_child(name: str, module: str, message_type: Any, env: Mapping[str, str]) -> AsyncIterator[Child[Any]]:
    """Starts `python -m module FD` with the environment plus `env`; on leaving, the process has ended.

    The child gets its own session, so that a terminal's Ctrl-C reaches only the parent.
    """
    ours, theirs = socket.socketpair()
    try:
        process = _spawn(module, theirs, env)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    child: Child[Any] = Child(name, process, reader, writer, message_type)
    try:
        yield child
    finally:
        await to_the_end(child.close())
