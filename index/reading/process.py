"""The process that reads untrusted files: `python -P -m index.reading.process FD LIMITS`.

It imports all readers once and forks a child when it is asked to, which takes a few milliseconds. A request is a byte
with a socket beside it; the child takes files from that socket and answers on it, until it is closed; how the child
ended is told on the first. This process has one thread, touches no file's content itself, and ends when its parent
closes the connection.
"""

import contextlib
import gc
import os
import signal
import socket
import struct
import sys

import msgspec

from index.errors import UnreadableDocument
from index.reading import readers
from index.reading.confinement import ReadingLimits, confine_process, confine_reader, rest
from index.types import Parsed

ENDED = struct.Struct(">i")  # how a child ended: as `os.waitstatus_to_exitcode` tells it
FILE = struct.Struct(">II")  # before a file: the length of its path and of its content, bytes
ANSWER = struct.Struct(">I")  # before an answer: its length, bytes
_PDF_DESCRIPTORS = 32  # its native library opens itself, an event loop and fonts; other readers open nothing


class Read(msgspec.Struct, tag=True, frozen=True):
    parsed: Parsed


class Unreadable(msgspec.Struct, tag=True, frozen=True):
    """The reason, one line for a person."""

    reason: str


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    limits = msgspec.json.decode(sys.argv[2], type=ReadingLimits)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    readers.import_all()
    readers.read("warm.md", b"# A\n\n| b |\n|---|\n| c |")  # compiles what is compiled when it is first used
    confine_process()
    gc.disable()  # or every child would copy the pages of all objects to mark them
    while descriptors := _request(control):
        pid = os.fork()
        if not pid:
            control.close()
            _read_files(socket.socket(fileno=descriptors[0]), limits)
        os.close(descriptors[0])
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # the parent is gone: the next request says so
            control.sendall(ENDED.pack(os.waitstatus_to_exitcode(status)))


def _request(control: socket.socket) -> list[int]:
    """The socket of the next file; nothing when there is none any more."""
    try:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    except OSError:
        return []
    return descriptors


def _read_files(connection: socket.socket, limits: ReadingLimits) -> None:
    """The child's life. It never returns."""
    status = 1
    try:
        stream = connection.makefile("rb")
        while head := stream.read(FILE.size):
            path_size, content_size = FILE.unpack(head)
            path = stream.read(path_size).decode()
            content = stream.read(content_size)
            confine_reader(limits, _PDF_DESCRIPTORS if path.lower().endswith(".pdf") else 0)
            answer = _answer(path, content, limits)
            connection.sendall(ANSWER.pack(len(answer)))
            connection.sendall(answer)
            rest()
        status = 0
    except (OSError, ValueError, struct.error, MemoryError):  # the parent is gone, or does not want more
        pass
    finally:
        os._exit(status)


def _answer(path: str, content: bytes, limits: ReadingLimits) -> bytes:
    try:
        answer = msgspec.msgpack.encode(Read(readers.read(path, content)))
        if len(answer) > most_result_bytes(limits, len(content)):
            return _unreadable("it holds more text than is read of one file")
        return answer
    except UnreadableDocument as error:
        return _unreadable(error.reason)
    except MemoryError:
        return _unreadable(f"reading it takes more memory than it may ({limits.memory_bytes >> 20:,} MiB)")
    except RecursionError:
        return _unreadable("it is nested too deeply")
    except Exception as error:  # the boundary to foreign parsers: whatever they raise is this file's failure
        return _unreadable(f"it could not be read ({type(error).__name__}: {error})")


def _unreadable(reason: str) -> bytes:
    line = " ".join(reason.split())[:300].encode(errors="replace").decode()
    return msgspec.msgpack.encode(Unreadable(line))


def most_result_bytes(limits: ReadingLimits, content_size: int) -> int:
    return max(limits.result_bytes, 4 * content_size)


if __name__ == "__main__":
    main()
