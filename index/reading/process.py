"""The reader process: `python -P -m index.reading.process FD LIMITS`.

It imports all readers once, and forks a child for each request, which takes a few milliseconds. A request is one byte
on the control socket, with a socket beside it. The child reads the files that it receives on that socket and answers
there, until the socket is closed; then this process sends the child's exit status on the control socket. This process
has one thread, never touches a file's content, and ends when its parent closes the control socket.
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
from index.reading.confinement import ReadingLimits, confine_process, limit_child, stop_timer
from index.types import ParsedDocument

EXIT_STATUS = struct.Struct(">i")  # of a child, as `os.waitstatus_to_exitcode` returns it
FILE_HEADER = struct.Struct(">II")  # the lengths of a file's path and of its content, in bytes
ANSWER_HEADER = struct.Struct(">I")  # the length of an answer, in bytes


class ReadSucceeded(msgspec.Struct, tag=True, frozen=True):
    parsed: ParsedDocument


class ReadFailed(msgspec.Struct, tag=True, frozen=True):
    """`reason` is one line for a person."""

    reason: str


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    limits = msgspec.json.decode(sys.argv[2], type=ReadingLimits)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    readers.import_all()
    readers.read("warm.md", b"# A\n\n| b |\n|---|\n| c |")  # compiles what is compiled on first use
    confine_process()
    gc.disable()  # a collection would make every child copy the pages of all objects to mark them
    while descriptors := _receive_request(control):
        pid = os.fork()
        if not pid:
            control.close()
            _read_files(socket.socket(fileno=descriptors[0]), limits)
        os.close(descriptors[0])
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # the parent is gone; the next request says so
            control.sendall(EXIT_STATUS.pack(os.waitstatus_to_exitcode(status)))


def _receive_request(control: socket.socket) -> list[int]:
    """Return the descriptor of a child's socket; an empty list once the parent has closed the control socket."""
    try:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    except OSError:
        return []
    return descriptors


def _read_files(connection: socket.socket, limits: ReadingLimits) -> None:
    """Read the files that arrive on the connection. Runs in the child and never returns."""
    status = 1
    try:
        stream = connection.makefile("rb")
        while header := stream.read(FILE_HEADER.size):
            path_bytes, content_bytes = FILE_HEADER.unpack(header)
            path = stream.read(path_bytes).decode()
            content = stream.read(content_bytes)
            limit_child(limits, readers.format_of(path).num_descriptors)
            answer = _read_file(path, content, limits)
            connection.sendall(ANSWER_HEADER.pack(len(answer)))
            connection.sendall(answer)
            stop_timer()
        status = 0
    except (OSError, ValueError, struct.error, MemoryError):  # the parent is gone, or wants no more answers
        pass
    finally:
        os._exit(status)


def _read_file(path: str, content: bytes, limits: ReadingLimits) -> bytes:
    """Return the encoded answer."""
    try:
        answer = msgspec.msgpack.encode(ReadSucceeded(readers.read(path, content)))
        if len(answer) > limits.max_result_bytes(len(content)):
            return _encode_failure("it holds more text than is read of one file")
        return answer
    except UnreadableDocument as error:
        return _encode_failure(error.reason)
    except MemoryError:
        return _encode_failure(f"reading it takes more memory than it may ({limits.memory_bytes >> 20:,} MiB)")
    except RecursionError:
        return _encode_failure("it is nested too deeply")
    except Exception as error:  # the boundary to foreign parsers: whatever they raise is this file's failure
        return _encode_failure(f"it could not be read ({type(error).__name__}: {error})")


def _encode_failure(reason: str) -> bytes:
    line = " ".join(reason.split())[:300].encode(errors="replace").decode()
    return msgspec.msgpack.encode(ReadFailed(line))


if __name__ == "__main__":
    main()
