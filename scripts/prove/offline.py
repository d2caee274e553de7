"""Prove that Cloister tries to reach no other machine, in a namespace without a network, by three monitors.

    scripts/prove/offline

A new user's first start, indexing, questions over every API, uploads, tools, the commands, a killed child and a second
start; with settings in the environment that ask libraries to go online. The monitors are strace (system calls that name
an address off the machine, or a name server), an audit hook in every Python process (Python's own calls), and the
kernel (the namespace's count of packets without a route). As a control, programs that do try must be detected by the
monitors. The exit status is 1 when something was tried, failed, or was not detected. Needs Linux with unshare and
strace, and the right to create namespaces.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import proof
from isolation import NO_NETWORK, can_isolate
from real_server import Server, serving, wait_until, write_handbook

from server.ops.airgap import attempts, num_unrouted, strace

_ONLINE_SETTINGS = {
    "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://192.0.2.2", "ORT_DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": "0",
    "http_proxy": "http://192.0.2.1:9", "https_proxy": "http://192.0.2.1:9", "CLOISTER_LOG_LEVEL": "debug",
}  # fmt: skip
_TEST_VARIABLES = (
    "CI",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "CIRCLECI",
    "PYTEST_CURRENT_TEST",
    "XDG_CACHE_HOME",
)
_MONITORS = ("strace", "audit hook", "kernel")
_NATIVE = "import subprocess as s; s.run(['bash', '-c', ': < /dev/tcp/192.0.2.1/80'], stderr=s.DEVNULL)"
_DATAGRAM = "import socket as s; s.socket(type=s.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))"
# Python code that tries to reach the network, and which of the monitors must detect it. The kernel counts name look-ups
# only where the name server is another machine.
_CONTROLS = {
    "a page over HTTP": ("import urllib.request as u; u.urlopen('http://192.0.2.1/', timeout=2)", (True, True, True)),
    "a name": ("import socket; socket.getaddrinfo('example.org', 443)", (True, True, False)),
    "a datagram": (_DATAGRAM, (True, True, True)),
    "a native program": (_NATIVE, (True, False, True)),
}  # fmt: skip


class Attempts(NamedTuple):
    """Attempts to reach another machine."""

    counts: tuple[int, int, int]  # by monitor
    num_hooked: int  # Python processes that had the audit hook
    lines: list[str]  # what was attempted, and files left in the home folder


def monitor(folder: Path, command: list[str]) -> Attempts:
    """Run a command to its end in a namespace without a network, and return its attempts to leave it."""
    hook = Path(tempfile.mkdtemp(dir=folder))
    shutil.copy(proof.ROOT / "scripts/prove/monitor/sitecustomize.py", hook)
    trace, counters, home = hook / "trace", hook / "counters", hook / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in _TEST_VARIABLES}
    environment |= {"HOME": str(home), "PYTHONPATH": f"{hook}:{proof.ROOT}", "SHELL": "/bin/bash"} | _ONLINE_SETTINGS
    environment["COUNTERS"] = str(counters)
    inner = '"$@"; status=$?; cat /proc/net/snmp /proc/net/snmp6 > "$COUNTERS"; exit $status'
    line = [*NO_NETWORK, "sh", "-c", inner, "sh", *strace(trace), *command]
    status = subprocess.run(line, env=environment, cwd=folder).returncode
    if status:
        raise SystemExit(f"{' '.join(command)[:200]} ended with exit status {status}")
    logs = [path.read_text() for path in hook.glob("*.log")]
    by_hook = [line for text in logs for line in text.splitlines()]
    by_strace = attempts(trace)
    left_files = [str(path) for path in home.rglob("*")]
    counts = (len(by_strace), len(by_hook), num_unrouted(counters.read_text()))
    return Attempts(counts, len(logs), by_strace + by_hook + left_files)


class Scenario:
    """The actions of a new user. Prints each with its duration."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._since = folder, time.monotonic()

    def report(self, action: str) -> None:
        now = time.monotonic()
        print(f"  {now - self._since:6.1f} s  {action}", flush=True)
        self._since = now

    def run(self) -> None:
        docs = write_handbook(self._folder / "handbook")
        with self._serving(docs) as server:
            self.report("first start and indexing")
            with server.client() as http:
                self._apis(http)
                self.report(
                    "chat, streams, Responses, Messages, Ollama, embeddings, rerank, search, MCP, page, metrics"
                )
                self._uploads(http)
                self.report("a file and a vector store")
            (docs / "new.md").write_text("# Parking\n\nBicycles are parked behind the greenhouse.\n")
            wait_until(lambda: "greenhouse" in server.answer("Where are bicycles parked?"), 30, "the new file")
            self.report("a new file in the folder")
            self._commands(server)
            self.report("cloister ask, search, status, doctor, models list")
            engine = server.child("models.llm")
            assert engine is not None
            os.kill(engine, 9)
            wait_until(server.is_healthy, 60, "the restarted engine")
            assert "sixteen weeks" in server.answer("How long is parental leave?")
            self.report("a killed engine")
        with self._serving(docs) as server:
            assert "greenhouse" in server.answer("Where are bicycles parked?")
            self.report("a second start")

    def _serving(self, docs: Path) -> Any:
        return serving(self._folder, docs)

    def _apis(self, http: httpx.Client) -> None:
        question = "How long is parental leave?"
        messages = [{"role": "user", "content": question}]
        wait_until(
            lambda: "sixteen" in http.post("/v1/chat/completions", json={"messages": messages}).text, 60, question
        )
        for path, body in {
            "/v1/chat/completions": {"messages": messages, "stream": True},
            "/v1/responses": {"input": question},
            "/v1/messages": {"messages": messages, "max_tokens": 100, "model": "cloister"},
            "/api/chat": {"messages": messages, "model": "cloister"},
            "/v1/search": {"query": question},
        }.items():
            reply = http.post(path, json=body).raise_for_status().text
            assert "sixteen" in reply, f"{path}: {reply}"
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
        wait_until(
            lambda: "observatory" in http.post(path, json={"query": "When does the dome open?"}).text,
            30,
            "the uploaded file",
        )

    def _commands(self, server: Server) -> None:
        def run(*words: str) -> str:
            command = [sys.executable, "-m", "server", *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self._folder).stdout

        url = f"--url={server.url}"
        assert "sixteen" in run("ask", url, "How long is parental leave?")
        assert "sixteen" in run("search", url, "parental leave")
        assert json.loads(run("status", url, "--json"))
        assert run("doctor", f"--data={self._folder / 'data'}")
        assert "reader" in run("models", "list")


def prove() -> list[str]:
    """Return what does not hold."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = monitor(folder, [sys.executable, __file__, "--scenario", name])
        print(f"\n{result.num_hooked} Python processes had the audit hook")
        print(f"{'':28}" + "".join(f"{each:>12}" for each in _MONITORS))
        print(f"{'Cloister':28}" + "".join(f"{count:12}" for count in result.counts))
        problems = list(result.lines)
        if any(result.counts):
            problems.append(f"attempts to leave the machine: {result.counts}")
        for title, (code, must_detect) in _CONTROLS.items():
            program = f"import contextlib\nwith contextlib.suppress(OSError): exec({code!r})"
            control = monitor(folder, [sys.executable, "-c", program])
            print(f"{'control: ' + title:28}" + "".join(f"{count:12}" for count in control.counts))
            problems += [
                f"{each} did not detect {title}"
                for each, must, count in zip(_MONITORS, must_detect, control.counts, strict=True)
                if must and not count
            ]
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scenario:
        Scenario(options.scenario).run()
        return 0
    if not shutil.which("strace") or not can_isolate():
        parser.error("Linux with unshare and strace is needed, and the right to create namespaces")
    proof.print_machine()
    return proof.exit_status(prove())


if __name__ == "__main__":
    raise SystemExit(main())
