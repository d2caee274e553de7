"""Frames between a parent and its child processes: `msgspec.msgpack` Structs over an inherited socket pair.

A socket pair needs no path, no port and no connect(), and no other process can use it. When the child ends, the parent
reads an end of file; when the parent ends, even by kill -9, the child reads one and exits. So no child is ever left
behind. POSIX only (Linux, macOS).

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
_MAX_FRAME_BYTES = 256 << 20
_encoder = msgspec.msgpack.Encoder()

In = TypeVar("In")


def _frame(message: msgspec.Struct) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class ChildFailure(msgspec.Struct, tag=True, frozen=True):
    """A child's last frame when it cannot start or cannot go on. `reason`: one line for a person."""

    reason: str


class Inbox(Generic[In]):
    """The child's end of the connection. A thread reads frames; the main thread takes them and sends its own.

    `closed` is set when the parent has ended or has closed its end, which asks the child to end.
    """

    def __init__(self, sock: socket.socket, message_type: Any) -> None:
        self._sock = sock
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(message_type)
        self._frames: queue.SimpleQueue[In | None] = queue.SimpleQueue()
        self._send_lock = threading.Lock()
        self.closed = threading.Event()
        self.has_sent = False
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def _read(self) -> None:
        truncated = OSError, struct.error, msgspec.DecodeError
        with contextlib.suppress(*truncated), self._sock.makefile("rb") as stream:
            while head := stream.read(_LENGTH.size):
                (size,) = _LENGTH.unpack(head)
                self._frames.put(self._decoder.decode(stream.read(size)))
        self.closed.set()
        self._frames.put(None)

    def send(self, message: msgspec.Struct) -> None:
        """Send a frame, blocking until the parent has taken its bytes. Does nothing when the parent has ended."""
        self.has_sent = True
        with self._send_lock, contextlib.suppress(OSError):
            self._sock.sendall(_frame(message))

    def post(self, message: In) -> None:
        """Queue a message of this process's own with those that come from the parent. Thread-safe."""
        self._frames.put(message)

    def take(self, timeout: float | None = 0) -> list[In] | None:
        """Return every frame received so far, waiting up to `timeout` seconds (None: without limit) for the first.

        Returns None once the parent has closed its end.
        """
        frames: list[In] = []
        try:
            frame = self._frames.get(timeout=timeout) if timeout != 0 else self._frames.get_nowait()
            while frame is not None:
                frames.append(frame)
                frame = self._frames.get_nowait()
        except queue.Empty:
            return frames
        self._frames.put(None)  # so that the next call finds it closed too
        return frames or None

    def __iter__(self) -> Iterator[In]:
        """Yield frames one by one until the parent closes its end."""
        while (frame := self._frames.get()) is not None:
            yield frame


def child_main(main: Callable[[Inbox[Any]], None], message_type: Any) -> None:
    """Run `main` as the body of `python -m MODULE FD LOG_CONFIG`, until the parent closes its end.

    Ctrl-C is left to the parent: it closes the socket, and the child ends. An exception that `main` raises becomes one
    `ChildFailure` frame, never a traceback on a user's screen.
    """
    disable_core_dumps()
    configure_logging(msgspec.json.decode(sys.argv[2], type=LogConfig))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox: Inbox[Any] = Inbox(socket.socket(fileno=int(sys.argv[1])), message_type)
    threading.Thread(target=_exit_after, args=(inbox.closed, 10.0), daemon=True).start()
    status = 0
    try:
        main(inbox)
    except Exception as error:  # the process boundary: whatever it was, the parent is told and the process ends
        inbox.send(ChildFailure(reason=_reason(error, is_loading=not inbox.has_sent)))
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # native thread pools (OpenMP, torch) may hang in exit handlers; nothing is left to clean up


def _reason(error: Exception, *, is_loading: bool) -> str:
    """Return one line. After loading, an exception of a library may quote content: then only its type is named."""
    is_known = isinstance(error, OSError) or type(error).__module__.partition(".")[0] in OWN_PACKAGES
    lines = str(error).splitlines() if is_loading or is_known else []
    return lines[0] if lines else type(error).__name__


def _exit_after(closed: threading.Event, grace_s: float) -> None:
    """End a child that has not returned from native code `grace_s` seconds after the parent closed its end."""
    closed.wait()
    threading.Event().wait(grace_s)
    os._exit(1)


class Child(Generic[In]):
    """The parent's end: one running child process and the frames to and from it. Owned by `open_child`."""

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
        """Send a frame. Raises `ProcessFailed` when the child has ended."""
        try:
            self._writer.write(_frame(message))
            await self._writer.drain()
        except OSError as error:
            raise ProcessFailed(self.name, "the process has ended") from error

    def send_soon(self, message: msgspec.Struct) -> None:
        """Send a frame without waiting: a cancellation. It is dropped when the child has ended."""
        if not self._writer.is_closing():
            self._writer.write(_frame(message))

    async def frames(self) -> AsyncIterator[In]:
        """Yield every frame until the child ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if size > _MAX_FRAME_BYTES:
                    return
                yield self._decoder.decode(await self._reader.readexactly(size))

    async def receive(self) -> In:
        """Return the next frame. Raises `ProcessFailed` when the child ends instead."""
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
        """Close the connection, which asks the child to end; kill it after `grace_s` seconds."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), grace_s)
        except (OSError, TimeoutError):
            self._writer.transport.abort()
        if await self._wait(grace_s) is None:
            self._process.kill()
            await self._wait(5.0)


def _spawn(module: str, child_socket: socket.socket, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    log_config = msgspec.json.encode(LogConfig.of_this_process()).decode()
    return subprocess.Popen(
        # -P: do not import a `models` of the working directory
        [sys.executable, "-P", "-m", module, str(child_socket.fileno()), log_config],
        pass_fds=[child_socket.fileno()],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
        start_new_session=True,
    )


async def finish_despite_cancellation(work: Coroutine[Any, Any, None]) -> None:
    """Await the work to its end, however often the caller is cancelled meanwhile; then raise `CancelledError`."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


@contextlib.asynccontextmanager
async def open_child(name: str, module: str, message_type: Any, env: Mapping[str, str]) -> AsyncIterator[Child[Any]]:
    """Start `python -m module` with `env` added to the environment; the process has ended when the body is left.

    The child gets a session of its own, so that a terminal's Ctrl-C reaches only the parent.
    """
    parent_socket, child_socket = socket.socketpair()
    try:
        process = _spawn(module, child_socket, env)
    except OSError:
        parent_socket.close()
        raise
    finally:
        child_socket.close()
    reader, writer = await asyncio.open_connection(sock=parent_socket)
    child: Child[Any] = Child(name, process, reader, writer, message_type)
    try:
        yield child
    finally:
        await finish_despite_cancellation(child.close())
