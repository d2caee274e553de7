"""Everything Cloister does, in a namespace without a network, with three witnesses of whatever tries to leave it.

    scripts/prove/offline

A new user's first start, indexing, questions in every dialect, uploads, tools, the commands, a child that is killed, a
second start; with settings in the environment that ask libraries to go online. The witnesses are strace (system calls
that name an address off the machine, or a name server), an audit hook in every Python process (Python's own calls), and
the kernel (the namespace's count of packets that had no way out). Then the same around programs that do try, each of
which has to be seen: else nothing was proved. Ends with status 1 when something was tried, failed, or went unseen.
Needs Linux with unshare, strace and a free hand to make namespaces.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "tests" / "e2e")]

import httpx  # noqa: E402
from isolation import NO_NETWORK, can_isolate  # noqa: E402
from running import Server, serving, wait_until, write_handbook  # noqa: E402

from server.ops.airgap import attempts, num_unrouted, strace  # noqa: E402

_HOSTILE = {
    "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://192.0.2.2", "ORT_DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": "0",
    "http_proxy": "http://192.0.2.1:9", "https_proxy": "http://192.0.2.1:9", "CLOISTER_LOG_LEVEL": "debug",
}  # fmt: skip
_TELLS_OF_TESTS = (
    "CI",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "CIRCLECI",
    "PYTEST_CURRENT_TEST",
    "XDG_CACHE_HOME",
)
_WITNESSES = ("strace", "audit hook", "kernel")
_NATIVE = "import subprocess as s; s.run(['bash', '-c', ': < /dev/tcp/192.0.2.1/80'], stderr=s.DEVNULL)"
_DATAGRAM = "import socket as s; s.socket(type=s.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))"
# Each tries the network in its own way; which witnesses must see it, in their order. (The kernel sees who asks for a
# name only where the name server is another machine.)
_TRIES = {
    "a page over HTTP": ("import urllib.request as u; u.urlopen('http://192.0.2.1/', timeout=2)", (True, True, True)),
    "a name": ("import socket; socket.getaddrinfo('example.org', 443)", (True, True, False)),
    "a datagram": (_DATAGRAM, (True, True, True)),
    "a native program": (_NATIVE, (True, False, True)),
}  # fmt: skip


class Count(NamedTuple):
    """What each witness saw, and how many Python processes had the hook."""

    seen: tuple[int, int, int]
    num_hooked: int
    told: list[str]


@contextmanager
def watched(folder: Path) -> Iterator[Callable[[list[str]], Count]]:
    """Gives what runs a command in a namespace of its own until it ends, and counts."""

    def run(command: list[str]) -> Count:
        hook = Path(tempfile.mkdtemp(dir=folder))
        shutil.copy(_ROOT / "scripts/prove/witness/sitecustomize.py", hook)
        trace, counters = hook / "trace", hook / "counters"
        home = hook / "home"
        home.mkdir()
        environment = {name: value for name, value in os.environ.items() if name not in _TELLS_OF_TESTS}
        environment |= {"HOME": str(home), "PYTHONPATH": f"{hook}:{_ROOT}", "SHELL": "/bin/bash"} | _HOSTILE
        inner = '"$@"; status=$?; cat /proc/net/snmp /proc/net/snmp6 > "$COUNTERS"; exit $status'
        environment["COUNTERS"] = str(counters)
        line = [*NO_NETWORK, "sh", "-c", inner, "sh", *strace(trace), *command]
        done = subprocess.run(line, env=environment, cwd=folder)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)[:200]} ended with {done.returncode}")
        noted = [path.read_text() for path in hook.glob("*.noted")]
        by_hook = [line for text in noted for line in text.splitlines()]
        by_strace = attempts(trace)
        left = [str(path) for path in home.rglob("*")]
        return Count(
            (len(by_strace), len(by_hook), num_unrouted(counters.read_text())), len(noted), by_strace + by_hook + left
        )

    yield run


class Journey:
    """What a user does, told as it goes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._since = folder, time.monotonic()

    def did(self, what: str) -> None:
        now = time.monotonic()
        print(f"  {now - self._since:6.1f} s  {what}", flush=True)
        self._since = now

    def whole(self) -> None:
        docs = write_handbook(self._folder / "handbook")
        with self._serving(docs) as server:
            self.did("first start and indexing")
            with server.client() as http:
                self._dialects(http)
                self.did("chat, streams, Responses, Messages, Ollama, embeddings, rerank, search, MCP, page, metrics")
                self._uploads(http)
                self.did("a file and a vector store")
            (docs / "new.md").write_text("# Parking\n\nBicycles are parked behind the greenhouse.\n")
            wait_until(lambda: "greenhouse" in server.answer("Where are bicycles parked?"), 30, "the new file")
            self.did("a file that is added to the folder")
            self._commands(server)
            self.did("cloister ask, search, status, doctor, models list")
            killed = server.child("models.llm")
            assert killed is not None
            os.kill(killed, 9)
            wait_until(server.is_healthy, 60, "the engine again")
            assert "sixteen weeks" in server.answer("How long is parental leave?")
            self.did("an engine that is killed")
        with self._serving(docs) as server:
            assert "greenhouse" in server.answer("Where are bicycles parked?")
            self.did("a second start")

    def _serving(self, docs: Path) -> Any:
        return serving(self._folder, docs)

    def _dialects(self, http: httpx.Client) -> None:
        asked = "How long is parental leave?"
        messages = [{"role": "user", "content": asked}]
        wait_until(lambda: "sixteen" in http.post("/v1/chat/completions", json={"messages": messages}).text, 60, asked)
        for path, body in {
            "/v1/chat/completions": {"messages": messages, "stream": True},
            "/v1/responses": {"input": asked},
            "/v1/messages": {"messages": messages, "max_tokens": 100, "model": "cloister"},
            "/api/chat": {"messages": messages, "model": "cloister"},
            "/v1/search": {"query": asked},
        }.items():
            said = http.post(path, json=body).raise_for_status().text
            assert "sixteen" in said, f"{path}: {said}"
        http.post("/v1/embeddings", json={"input": [[9906, 1917]]}).raise_for_status()
        http.post("/v1/rerank", json={"query": "leave", "documents": ["leave", "rust"]}).raise_for_status()
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": "search", "arguments": {"query": "parental leave"}}}  # fmt: skip
        accept = {"Accept": "application/json, text/event-stream"}
        assert "sixteen weeks" in http.post("/mcp", json=call, headers=accept).text
        assert "<html" in http.get("/", headers={"Accept": "text/html"}).text
        assert "cloister_" in http.get("/metrics").text

    def _uploads(self, http: httpx.Client) -> None:
        text = "The observatory opens its dome at nine on clear evenings."
        file = http.post(
            "/v1/files", files={"file": ("dome.md", text)}, data={"purpose": "assistants"}
        ).raise_for_status()
        store = http.post("/v1/vector_stores", json={"name": "s", "file_ids": [file.json()["id"]]}).raise_for_status()
        path = f"/v1/vector_stores/{store.json()['id']}/search"
        wait_until(lambda: "observatory" in http.post(path, json={"query": "When does the dome open?"}).text, 30, "it")

    def _commands(self, server: Server) -> None:
        def run(*words: str) -> str:
            command = [sys.executable, "-m", "server", *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self._folder).stdout

        at = f"--url={server.url}"
        assert "sixteen" in run("ask", at, "How long is parental leave?")
        assert "sixteen" in run("search", at, "parental leave")
        assert json.loads(run("status", at, "--json"))
        assert run("doctor", f"--data={self._folder / 'data'}")
        assert "reader" in run("models", "list")


def prove() -> list[str]:
    """What does not hold."""
    wrong = []
    with tempfile.TemporaryDirectory() as name, watched(Path(name)) as run:
        found = run([sys.executable, __file__, "--inside", name])
        print(f"\n{found.num_hooked} Python processes had the hook")
        print(f"{'':28}" + "".join(f"{witness:>12}" for witness in _WITNESSES))
        print(f"{'Cloister':28}" + "".join(f"{count:12}" for count in found.seen))
        wrong += found.told
        if any(found.seen):
            wrong.append(f"attempts to leave the machine: {found.seen}")
        for what, (code, who_can) in _TRIES.items():
            tried = f"import contextlib\nwith contextlib.suppress(OSError): exec({code!r})"
            control = run([sys.executable, "-c", tried])
            print(f"{'control: ' + what:28}" + "".join(f"{count:12}" for count in control.seen))
            wrong += [
                f"{witness} did not see {what}"
                for witness, can, count in zip(_WITNESSES, who_can, control.seen, strict=True)
                if can and not count
            ]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        Journey(options.inside).whole()
        return 0
    if not shutil.which("strace") or not can_isolate():
        parser.error("Linux with unshare and strace is needed, and leave to make namespaces")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    wrong = prove()
    print("\n".join(["", *wrong]) if wrong else "\nno attempt; each control was seen")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
