"""Make system calls of the indexer and of the server fail, one after the other: nothing is lost, and both continue.

    .venv/bin/python scripts/prove/faults.py [--max-calls 40] [--process indexer|server]

A real server. For each kind of call (write, sync, rename, truncate, open) and each error, the Nth such call of the
process fails while it is at work, for N from 1 until no call failed any more, or `--max-calls`; by `strace --inject`,
attached for that time. (The method is SQLite's: fail the Nth, check, continue with the next.)

The indexer indexes a new file: it must be found within thirty seconds after the faults, and every earlier file must
still be a document. The server answers a question and stores the answer, stores an upload, and deletes the one before:
each request must get a reply, an error must be JSON; what it acknowledged as stored must be there afterwards, what it
acknowledged as deleted must be gone, and the next requests must succeed. The exit status is 1 when one of these fails.
Needs Linux, strace, and root, since the server's processes cannot be traced by others.
"""

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import httpx
import proof
from real_server import Server, wait_until

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


class ProofError(Exception):
    """A condition does not hold."""


class Trial(Protocol):
    """A process at work."""

    @property
    def faults(self) -> tuple[tuple[str, str], ...]: ...

    def pid(self) -> int | None: ...
    def work(self, name: str) -> None:
        """Do something while calls fail."""

    def check(self) -> None:
        """Check what must hold afterwards. Raises `ProofError`."""


class Indexing:
    """The indexer, which indexes new files."""

    faults = _FAULTS

    def __init__(self, server: Server) -> None:
        self._server, self._num_files, self._word = server, server.status()["documents"], ""

    def pid(self) -> int | None:
        return self._server.child("server.resources.indexer")

    def work(self, name: str) -> None:
        self._word = f"w{name}".lower()
        (self._server.docs / f"{name}.md").write_text(f"# {name}\n\nThe word is {self._word}.\n")
        self._num_files += 1
        proof.holds_within(_UNDER_FAULTS_S, self._is_found)

    def check(self) -> None:
        if not proof.holds_within(_RECOVERY_S, self._is_found):
            raise ProofError(f"{self._word} is not found")
        if not proof.holds_within(_RECOVERY_S, lambda: self._server.status()["documents"] == self._num_files):
            raise ProofError(f"{self._server.status()['documents']} files of {self._num_files} are known")

    def _is_found(self) -> bool:
        with self._server.client() as http:
            reply = http.post("/v1/search", json={"query": self._word, "top_k": 1})
        return reply.status_code == 200 and any(self._word in each["text"] for each in reply.json()["data"])


class Answering:
    """The server, which stores answers and uploads. Its event loop wakes itself by `write`, so that is not failed."""

    faults = tuple(fault for fault in _FAULTS if fault[0] != "write")

    def __init__(self, server: Server) -> None:
        self._server, self._stored = server, dict[str, str]()  # text of each stored resource, by path
        self._deleted = list[str]()
        self.num_refused = 0

    def pid(self) -> int | None:
        return self._server.process.pid

    def work(self, name: str) -> None:
        with self._server.client() as http:
            body = {"input": f"How long is parental leave? {name}"}
            if (reply := self._reply(http.post("/v1/responses", json=body))) is not None:
                self._stored[f"/v1/responses/{reply['id']}"] = "sixteen"
            form = {"file": (f"{name}.md", f"# {name}\n\nThe word is w{name}.\n")}
            before = next((path for path in self._stored if path.endswith("/content")), None)
            if (reply := self._reply(http.post("/v1/files", files=form, data={"purpose": "assistants"}))) is not None:
                self._stored[f"/v1/files/{reply['id']}/content"] = f"w{name}"
            if before and self._reply(http.delete(before.removesuffix("/content"))) is not None:
                del self._stored[before]
                self._deleted.append(before)

    def _reply(self, response: httpx.Response) -> dict[str, str] | None:
        if response.status_code == 200:
            content: dict[str, str] = response.json()
            return content
        self.num_refused += 1
        with suppress(ValueError, KeyError):
            if response.json()["error"]["message"]:
                return None
        raise ProofError(f"{response.request.url.path}: {response.status_code} {response.text[:200]}")

    def check(self) -> None:
        with self._server.client() as http:
            for path, text in self._stored.items():
                reply = http.get(path)
                if reply.status_code != 200 or text not in reply.text:
                    raise ProofError(f"{path} was stored, and is {reply.status_code}: {reply.text[:200]}")
            for path in self._deleted:
                if (reply := http.get(path)).status_code != 404:
                    raise ProofError(f"{path} was deleted, and is {reply.status_code}")
            if (reply := self._server.ask("How long is parental leave?")).status_code != 200:
                raise ProofError(f"a question afterwards: {reply.status_code} {reply.text[:200]}")
        for path in list(self._stored)[:-4]:  # check at most four old ones again
            del self._stored[path]
        del self._deleted[:-4]


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
        return True  # it has ended


def prove(trial: Trial, max_calls: int, trace: Path) -> list[str]:
    """Run the trials of every fault; return what does not hold."""
    num_failed = num_trials = 0
    for call, error in trial.faults:
        number, restarts = 0, 0
        for number in range(1, max_calls + 1):
            pid = trial.pid()
            assert pid is not None
            try:
                with failing(pid, call, error, number, trace):
                    trial.work(f"{call}{error}{number}")
                trial.check()
            except (ProofError, httpx.HTTPError) as problem:
                return [f"{error} from {call} number {number}: {problem}"]
            num_trials += 1
            has_failed = "(INJECTED)" in trace.read_text(errors="replace")
            num_failed += has_failed
            restarts += trial.pid() != pid
            if not has_failed:
                break
        print(f"{call:10} {error:7} {number - 1:3} calls failed, {restarts} restarts", flush=True)
    print(f"{num_failed} calls failed in {num_trials} trials; every trial passed")
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-calls", type=int, default=40)
    parser.add_argument("--process", choices=_TRIALS, action="append")
    options = parser.parse_args()
    if not shutil.which("strace") or os.geteuid():
        parser.error("strace and root are needed")
    proof.print_machine()
    problems = []
    for name in options.process or _TRIALS:
        print(f"\n{name}", flush=True)
        with tempfile.TemporaryDirectory() as folder, proof.serve_handbook() as server:
            problems += prove(_TRIALS[name](server), options.max_calls, Path(folder, "trace"))
            lines = proof.warnings(server)
            print(f"{len(lines)} lines in the log, such as:", *lines[:5], sep="\n  ")
    return proof.exit_status(problems)


if __name__ == "__main__":
    raise SystemExit(main())
