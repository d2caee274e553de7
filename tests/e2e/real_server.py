"""Start the real server for tests: `cloister serve` as its own process, with the built-in models and a folder."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

START_S = 90.0
CACHE = Path(__file__).parents[2] / ".pytest_cache" / "d" / "converted"  # one for all runs, the models' tests' too


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> Any:
    """Return the condition's first true value; fail with `what` when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(f"not within {timeout_s} s: {what or condition}")


class Server:
    """A running `cloister serve` and the folder it watches."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, docs: Path) -> None:
        self.process = process
        self.log = log
        self.docs = docs
        self.url = ""

    def wait_ready(self) -> None:
        def address() -> str | None:
            assert self.process.poll() is None, self.log.read_text()
            match = re.search(r"Ready:\s+(http://\S+)/v1", self.log.read_text())
            return match and match[1]

        self.url = wait_until(address, START_S, "the server's Ready line")

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        with self.client() as http:
            return http.get(path)

    def ask(self, question: str, **fields: Any) -> httpx.Response:
        with self.client() as http:
            body = {"messages": [{"role": "user", "content": question}], **fields}
            return http.post("/v1/chat/completions", json=body)

    def answer(self, question: str, **fields: Any) -> str:
        response = self.ask(question, **fields)
        assert response.status_code == 200, response.text
        content: str = response.json()["choices"][0]["message"]["content"]
        return content

    def status(self) -> dict[str, Any]:
        """Return the status of the first collection."""
        with self.client() as http:
            status_of_first: dict[str, Any] = http.get("/v1/index/status").json()["collections"][0]
            return status_of_first

    def is_healthy(self) -> bool:
        with self.client() as http, contextlib.suppress(httpx.TransportError):
            return http.get("/health").status_code == 200
        return False

    def child(self, module: str) -> int | None:
        """Return the process id of the child that runs `module`."""
        return next((pid for pid, command in children(self.process.pid) if module in command), None)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def children(parent: int) -> list[tuple[int, str]]:
    """Return the process ids and command lines of a process's children."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 2) for line in listing.splitlines())
    return [(int(pid), command) for pid, ppid, command in rows if int(ppid) == parent and "ps -eo" not in command]


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(
    folder: Path,
    docs: Path,
    *arguments: str,
    command: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    docs_flag: bool = True,
) -> Iterator[Server]:
    """Start a server on a free port with its data and log in `folder`; end it, by its process id, on leaving.

    Without `docs_flag`, a `cloister.toml` in `folder` names the folders. `command` goes in front (`unshare`, `strace`)
    and must leave the server the process id it is started with.
    """
    log = folder / "server.log"
    line = [
        *command,
        sys.executable,
        "-m",
        "server",
        "serve",
        *([f"--docs={docs}"] if docs_flag else []),
        f"--data={folder / 'data'}",
        "--port=0",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*line, *arguments],
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, "CLOISTER_CACHE": str(CACHE), **(environment or {})},
        )
    server = Server(process, log, docs)
    try:
        server.wait_ready()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(*arguments: str, cwd: Path, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a `cloister serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "server", "serve", *arguments]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CLOISTER_")}
    return subprocess.run(
        command,
        cwd=cwd,
        env={**clean, "CLOISTER_CACHE": str(CACHE), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


HANDBOOK = {
    "leave.md": "# Leave\n\n## Parental leave\n\nParental leave is sixteen weeks with full pay.\n\n"
    "## Sick leave\n\nSend a note to your team before ten in the morning.\n",
    "travel.md": "# Travel\n\nTrains come first. Flights need approval when the trip is shorter than 800 kilometres.\n",
    "office/keys.txt": "The spare key of the server room hangs in the blue cabinet.\n",
}


def write_handbook(docs: Path) -> Path:
    for path, text in HANDBOOK.items():
        (docs / path).parent.mkdir(parents=True, exist_ok=True)
        (docs / path).write_text(text)
    return docs
