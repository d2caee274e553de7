"""Make system calls of the indexer and of the server fail, one after the other: nothing is lost, and both go on.

    .venv/bin/python scripts/prove/faults.py [--most 40] [--process indexer|server]

A real server. For each kind of call (to write, to sync, to rename, to truncate, to open) and each error, the Nth such
call of the process fails while it has something to do, for N from 1 until no call failed any more, or `--most`; by
`strace --inject`, attached for that long. (The method is SQLite's: fail the Nth, check, count on.)

The indexer takes a new file in: it must be found within thirty seconds after the faults are over, and every file from
before must still be known. The server answers a question and keeps the answer, takes an upload, and deletes the one
before: each request must get a reply, and an error must be one in JSON; what it said it kept must be there afterwards,
what it said it deleted must be gone, and the next requests must succeed. Ends with status 1 when something of this does
not hold. Needs Linux, strace, and root, since the server's processes let nobody else look into them.
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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / "e2e")]

import httpx  # noqa: E402
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


class WrongError(Exception):
    """A condition that does not hold."""


class Trial(Protocol):
    """A process at work."""

    faults: tuple[tuple[str, str], ...]

    def pid(self) -> int | None: ...
    def work(self, name: str) -> None:
        """Do something while calls fail."""

    def check(self) -> None:
        """Check what must hold afterwards. Raises `WrongError`."""


class Indexing:
    """The indexer, which takes in new files."""

    faults = _FAULTS

    def __init__(self, server: Server) -> None:
        self._server, self._num_files, self._word = server, server.status()["documents"], ""

    def pid(self) -> int | None:
        return self._server.child("server.resources.indexer")

    def work(self, name: str) -> None:
        self._word = f"w{name}".lower()
        (self._server.docs / f"{name}.md").write_text(f"# {name}\n\nThe word is {self._word}.\n")
        self._num_files += 1
        _holds_within(_UNDER_FAULTS_S, self._is_found)

    def check(self) -> None:
        if not _holds_within(_RECOVERY_S, self._is_found):
            raise WrongError(f"{self._word} is not found")
        if not _holds_within(_RECOVERY_S, lambda: self._server.status()["documents"] == self._num_files):
            raise WrongError(f"{self._server.status()['documents']} files of {self._num_files} are known")

    def _is_found(self) -> bool:
        with self._server.client() as http:
            reply = http.post("/v1/search", json={"query": self._word, "top_k": 1})
        return reply.status_code == 200 and any(self._word in each["text"] for each in reply.json()["data"])


class Answering:
    """The server, which keeps answers and uploads. Its event loop wakes itself by `write`, which never fails here."""

    faults = tuple(fault for fault in _FAULTS if fault[0] != "write")

    def __init__(self, server: Server) -> None:
        self._server, self._promised = server, dict[str, str]()  # by path, what must be there
        self._gone = list[str]()
        self.num_refused = 0

    def pid(self) -> int | None:
        return self._server.process.pid

    def work(self, name: str) -> None:
        with self._server.client() as http:
            asked = {"input": f"How long is parental leave? {name}"}
            if (reply := self._reply(http.post("/v1/responses", json=asked))) is not None:
                self._promised[f"/v1/responses/{reply['id']}"] = "sixteen"
            form = {"file": (f"{name}.md", f"# {name}\n\nThe word is w{name}.\n")}
            before = next((path for path in self._promised if path.endswith("/content")), None)
            if (reply := self._reply(http.post("/v1/files", files=form, data={"purpose": "assistants"}))) is not None:
                self._promised[f"/v1/files/{reply['id']}/content"] = f"w{name}"
            if before and self._reply(http.delete(before.removesuffix("/content"))) is not None:
                del self._promised[before]
                self._gone.append(before)

    def _reply(self, response: httpx.Response) -> dict[str, str] | None:
        if response.status_code == 200:
            found: dict[str, str] = response.json()
            return found
        self.num_refused += 1
        with suppress(ValueError, KeyError):
            if response.json()["error"]["message"]:
                return None
        raise WrongError(f"{response.request.url.path}: {response.status_code} {response.text[:200]}")

    def check(self) -> None:
        with self._server.client() as http:
            for path, text in self._promised.items():
                found = http.get(path)
                if found.status_code != 200 or text not in found.text:
                    raise WrongError(f"{path} was promised, and is {found.status_code}: {found.text[:200]}")
            for path in self._gone:
                if (found := http.get(path)).status_code != 404:
                    raise WrongError(f"{path} was deleted, and is {found.status_code}")
            if (asked := self._server.ask("How long is parental leave?")).status_code != 200:
                raise WrongError(f"a question afterwards: {asked.status_code} {asked.text[:200]}")
        for path in list(self._promised)[:-4]:  # enough of the old ones
            del self._promised[path]
        del self._gone[:-4]


_TRIALS: dict[str, Callable[[Server], Trial]] = {"indexer": Indexing, "server": Answering}


@contextmanager
def failing(pid: int, call: str, error: str, number: int, trace: Path) -> Iterator[None]:
    """Make the `number`th such call of the process fail, whichever of its threads makes it."""
    inject = f"inject={call}:error={error}:when={number}"
    command = ["strace", "-f", "-qq", "-e", f"trace={call}", "-e", inject, "-o", str(trace), "-p", str(pid)]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: is_traced(pid) or tracer.poll() is not None, 10, "strace at the process")
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


def prove(trial: Trial, most: int, trace: Path) -> list[str]:
    """Run the trials of every fault; return what does not hold."""
    num_failed = num_trials = 0
    for call, error in trial.faults:
        number, restarts = 0, 0
        for number in range(1, most + 1):
            pid = trial.pid()
            assert pid is not None
            try:
                with failing(pid, call, error, number, trace):
                    trial.work(f"{call}{error}{number}")
                trial.check()
            except (WrongError, httpx.HTTPError) as wrong:
                return [f"{error} from {call} number {number}: {wrong}"]
            num_trials += 1
            has_failed = "(INJECTED)" in trace.read_text(errors="replace")
            num_failed += has_failed
            restarts += trial.pid() != pid
            if not has_failed:
                break
        print(f"{call:10} {error:7} {number - 1:3} calls failed, {restarts} restarts", flush=True)
    print(f"{num_failed} calls failed in {num_trials} trials; all of them held")
    return []


def _holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=40)
    parser.add_argument("--process", choices=_TRIALS, action="append")
    options = parser.parse_args()
    if not shutil.which("strace") or os.geteuid():
        parser.error("strace and root are needed")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    wrong = []
    for name in options.process or _TRIALS:
        print(f"\n{name}", flush=True)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = stack.enter_context(serving(folder, write_handbook(folder / "handbook")))
            wait_until(lambda server=server: server.status()["pending"] == 0, 30, "the handbook")  # type: ignore[misc]
            wrong += prove(_TRIALS[name](server), options.most, folder / "trace")
            told = [line for line in server.log.read_text().splitlines() if line.startswith(("WARN", "ERR"))]
            print(f"{len(told)} lines in the log, such as:", *told[:5], sep="\n  ")
    print("\n".join(wrong) or "all of it holds")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
