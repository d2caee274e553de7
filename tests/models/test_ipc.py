"""Frames between a parent and its child processes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.errors import ProcessFailed
from models.ipc import Child, ChildFailure, Inbox, finish_despite_cancellation, open_child

FRAME_SIZES = [0, 1, 100, 65_535, 65_536, 65_537, 1 << 20, (16 << 20) + 1]

CHILD = """
import os, signal, threading
import msgspec
from models.ipc import child_main

class Note(msgspec.Struct, tag=True):
    body: bytes

def main(inbox):
    for note in inbox:
        match note.body:
            case b"raise": raise ValueError("no such thing")
            case b"raise nothing": raise ValueError
            case b"exit": os._exit(3)
            case b"die": os.kill(os.getpid(), signal.SIGKILL)
            case b"sleep": threading.Event().wait()
        inbox.send(note)

if __name__ == "__main__":
    child_main(main, Note)
"""

PARENT = """
import asyncio, sys
from models.ipc import open_child

async def main():
    async with open_child("child", "echo_child", None, {}) as child:
        print(child.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class Note(msgspec.Struct, tag=True):
    body: bytes


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the environment for `echo_child`, which sends each note back or carries out its command."""
    (tmp_path / "echo_child.py").write_text(CHILD)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}


async def exchange(child: Child[Any], body: bytes) -> Any:
    await child.send(Note(body))
    return await child.receive()


def test_frames_of_any_size_go_both_ways(env: dict[str, str]) -> None:
    async def scenario() -> None:
        async with open_child("echo", "echo_child", Note, env) as child:
            for size in FRAME_SIZES:
                note = Note(os.urandom(size))
                assert await exchange(child, note.body) == note
            for size in FRAME_SIZES[:4]:
                await child.send(Note(b"x" * size))
            assert [len((await child.receive()).body) for _ in FRAME_SIZES[:4]] == FRAME_SIZES[:4]

    asyncio.run(scenario())


def test_the_process_has_ended_when_open_child_is_left(env: dict[str, str]) -> None:
    async def scenario() -> int:
        async with open_child("echo", "echo_child", Note, env) as child:
            await exchange(child, b"hello")
        return child.pid

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(scenario()), 0)


def test_a_child_that_does_not_end_is_killed(env: dict[str, str]) -> None:
    async def scenario() -> str:
        async with open_child("echo", "echo_child", Note, env) as child:
            await child.send(Note(b"sleep"))
            await child.close(grace_s=0.2)
            return await child.exit_reason()

    assert asyncio.run(scenario()) == "the process was ended by SIGKILL"


def test_a_child_ends_when_its_parent_is_killed(env: dict[str, str]) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], env={**os.environ, **env}, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) > 0
        parent.kill()
        # The child has inherited this pipe: reading it ends only when both processes have ended.
        assert parent.stdout.read() == b""


def test_a_child_ignores_ctrl_c(env: dict[str, str]) -> None:
    async def scenario() -> None:
        async with open_child("echo", "echo_child", Note, env) as child:
            await exchange(child, b"ready")
            os.kill(child.pid, signal.SIGINT)
            assert await exchange(child, b"still there") == Note(b"still there")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("command", "reason"),
    [(b"raise", "no such thing"), (b"raise nothing", "ValueError")],
)
def test_an_exception_in_the_child_is_its_last_frame(env: dict[str, str], command: bytes, reason: str) -> None:
    async def scenario() -> None:
        async with open_child("echo", "echo_child", Note | ChildFailure, env) as child:
            failure = await exchange(child, command)
            assert isinstance(failure, ChildFailure)
            assert failure.reason.rstrip(": ") == reason
            assert await child.exit_reason() == "the process ended with status 1"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("command", "reason"),
    [(b"exit", "the process ended with status 3"), (b"die", "the process was ended by SIGKILL")],
)
def test_receive_raises_how_the_child_ended(env: dict[str, str], command: bytes, reason: str) -> None:
    async def scenario() -> None:
        async with open_child("echo", "echo_child", Note, env) as child:
            with pytest.raises(ProcessFailed) as caught:
                await exchange(child, command)
            assert (caught.value.name, caught.value.reason) == ("echo", reason)

    asyncio.run(scenario())


def test_a_missing_module_is_a_failed_process() -> None:
    async def scenario() -> None:
        async with open_child("echo", "no_such_module_at_all", Note, {}) as child:
            with pytest.raises(ProcessFailed, match="status 1"):
                await child.receive()

    asyncio.run(scenario())


class TestInbox:
    """Tests of the child's end of a connection, in the same process as the parent's."""

    @pytest.fixture
    def ends(self) -> Iterator[tuple[socket.socket, Inbox[Note]]]:
        parent_socket, child_socket = socket.socketpair()
        inbox: Inbox[Note] = Inbox(child_socket, Note)
        with child_socket, parent_socket:
            yield parent_socket, inbox
            parent_socket.close()
            inbox.closed.wait()

    @staticmethod
    def frame(body: bytes) -> bytes:
        encoded = msgspec.msgpack.encode(Note(body))
        return len(encoded).to_bytes(4) + encoded

    def test_take_returns_nothing_before_a_frame_comes(self, ends: tuple[socket.socket, Inbox[Note]]) -> None:
        assert ends[1].take() == []

    def test_take_returns_frames_before_the_end_and_then_none(self, ends: tuple[socket.socket, Inbox[Note]]) -> None:
        parent, inbox = ends
        parent.sendall(self.frame(b"1") + self.frame(b"2"))
        parent.close()
        inbox.closed.wait()
        assert inbox.take() == [Note(b"1"), Note(b"2")]
        assert [inbox.take(), inbox.take(timeout=None)] == [None, None]

    def test_take_waits_for_the_first_frame(self, ends: tuple[socket.socket, Inbox[Note]]) -> None:
        parent, inbox = ends
        parent.sendall(self.frame(b"1"))
        assert inbox.take(timeout=None) == [Note(b"1")]

    def test_a_frame_may_come_in_pieces(self, ends: tuple[socket.socket, Inbox[Note]]) -> None:
        parent, inbox = ends
        for byte in self.frame(b"in pieces"):
            parent.sendall(bytes([byte]))
        assert inbox.take(timeout=None) == [Note(b"in pieces")]

    @pytest.mark.parametrize(
        "data",
        [b"", b"\0\0\0\x09\x82", b"\0\0\0\x01\xc1", b"\0\0\0\x01\x80"],
        ids=["nothing", "half a frame", "no msgpack", "another message"],
    )
    def test_an_unreadable_frame_closes_the_inbox(self, ends: tuple[socket.socket, Inbox[Note]], data: bytes) -> None:
        parent, inbox = ends
        parent.sendall(data)
        parent.shutdown(socket.SHUT_WR)
        assert inbox.take(timeout=None) is None
        assert inbox.closed.is_set()

    def test_sending_to_an_ended_parent_does_nothing(self, ends: tuple[socket.socket, Inbox[Note]]) -> None:
        parent, inbox = ends
        parent.close()
        inbox.send(Note(b"first"))
        inbox.send(Note(b"second"))
        assert inbox.take(timeout=None) is None


def test_finish_despite_cancellation_awaits_the_work_and_then_raises() -> None:
    async def scenario() -> None:
        end, is_done = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await end.wait()
            is_done.set()

        task = asyncio.create_task(finish_despite_cancellation(work()))
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_done.is_set()

    asyncio.run(scenario())
