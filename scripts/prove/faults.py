"""System calls of the indexer that fail, one after the other: nothing that was indexed is lost, and it goes on.

    .venv/bin/python scripts/prove/faults.py [--most 40]

A real server. For each kind of call (to write, to sync, to rename, to truncate, to open) and each error, the Nth such
call of the indexer fails while a new file is taken in, for N from 1 until no call failed any more, or `--most`; by
`strace --inject`, attached for that long. (The method is SQLite's: fail the Nth, check, count on.) Every time the new
file must be found within thirty seconds after the faults are over, and every file from before must still be known. Ends
with status 1 when something of this does not hold. Needs Linux, strace, and root, since the server's processes let
nobody else look into them.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / "e2e")]

from running import Server, serving, wait_until, write_handbook  # noqa: E402

_FAULTS = (
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("write", "ENOSPC"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("rename", "EIO"),
    ("ftruncate", "EIO"),
    ("openat", "EMFILE"),
)
_UNDER_FAULTS_S = 3.0
_RECOVERY_S = 30.0


@contextmanager
def failing(pid: int, call: str, error: str, number: int, trace: Path) -> Iterator[None]:
    """The `number`th such call of the process, whichever of its threads makes it, fails."""
    inject = f"inject={call}:error={error}:when={number}"
    command = ["strace", "-f", "-qq", "-e", f"trace={call}", "-e", inject, "-o", str(trace), "-p", str(pid)]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: is_traced(pid) or tracer.poll() is not None, 10, "strace at the indexer")
        assert tracer.poll() is None, (tracer.stderr.read() if tracer.stderr else b"").decode()
        yield
    finally:
        tracer.send_signal(signal.SIGINT)  # detaches
        tracer.communicate(timeout=10)


def is_traced(pid: int) -> bool:
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True  # it is gone


def finds(server: Server, word: str) -> bool:
    with server.client() as http:
        reply = http.post("/v1/search", json={"query": word, "top_k": 1})
    return reply.status_code == 200 and any(word in each["text"] for each in reply.json()["data"])


def prove(server: Server, most: int, trace: Path) -> list[str]:
    """What does not hold."""
    wrong, num_files, num_failed = list[str](), server.status()["documents"], 0
    for call, error in _FAULTS:
        number, restarts = 0, 0
        for number in range(1, most + 1):
            name, word = f"{call}{error}{number}", f"w{call}{error}{number}".lower()
            pid = server.child("server.indexing")
            assert pid is not None
            with failing(pid, call, error, number, trace):
                (server.docs / f"{name}.md").write_text(f"# {name}\n\nThe word is {word}.\n")
                soon = _soon(lambda word=word: finds(server, word))  # type: ignore[misc]
            num_files += 1
            has_failed = "(INJECTED)" in trace.read_text(errors="replace")
            num_failed += has_failed
            try:
                wait_until(lambda word=word: finds(server, word), _RECOVERY_S, word)  # type: ignore[misc]
                wait_until(lambda count=num_files: server.status()["documents"] == count, _RECOVERY_S, "all files")  # type: ignore[misc]
            except BaseException as failure:  # pytest's, which is no Exception
                wrong.append(f"{error} from {call} number {number}: {failure}; found meanwhile: {soon}")
                return wrong
            restarts += server.child("server.indexing") != pid
            if not has_failed:
                break
        print(f"{call:10} {error:7} {number - 1:3} calls failed, {restarts} restarts", flush=True)
    print(f"{num_failed} calls failed, {num_files} files, all found")
    return wrong


def _soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + _UNDER_FAULTS_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=40)
    options = parser.parse_args()
    if not shutil.which("strace") or os.geteuid():
        parser.error("strace and root are needed")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serving(folder, write_handbook(folder / "handbook")))
        wait_until(lambda: server.status()["pending"] == 0, 30, "the handbook")
        wrong = prove(server, options.most, folder / "trace")
        told = [line for line in server.log.read_text().splitlines() if line.startswith(("WARN", "ERR"))]
        print(f"{len(told)} lines in the log, such as:", *told[:5], sep="\n  ")
    print("\n".join(wrong) or "all of it holds")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
