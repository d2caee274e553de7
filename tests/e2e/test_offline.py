"""The whole path of a question in a namespace without a network; strace shows no attempt to leave the machine."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from isolation import NO_NETWORK, can_isolate
from real_server import serving, wait_until, write_handbook

from server.ops.airgap import attempts, strace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("unshare", "strace"))), reason="needs unshare and strace (Linux: util-linux, strace)"
)


@needs_tools
@pytest.mark.skipif(not can_isolate(), reason="this machine allows no network namespace")
def test_everything_works_without_a_network_and_nothing_tries_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The questions are asked inside the namespace too, by the server's own Python. The home is a new user's, and
    nothing says that this is a test, which some libraries look for before they report their users."""
    docs, trace, home = write_handbook(tmp_path / "handbook"), tmp_path / "trace", tmp_path / "home"
    home.mkdir()
    hostile = {"HF_HUB_OFFLINE": "0", "http_proxy": "http://192.0.2.1:9", "HF_ENDPOINT": "http://192.0.2.2"}
    hostile |= {"HOME": str(home), "ORT_DISABLE_TELEMETRY": "0"}
    command = (*NO_NETWORK, *strace(trace))
    for name in ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "PYTEST_CURRENT_TEST", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with serving(tmp_path, docs, command=command, environment=hostile) as server:
        inside = ("nsenter", "--preserve-credentials", "-U", "-n", "-t", str(server.process.pid), sys.executable, "-c")

        def fetch(path: str, body: dict[str, Any]) -> str:
            code = (
                "import sys, urllib.request as u; u.install_opener(u.build_opener(u.ProxyHandler({})));"
                "headers = {'Content-Type': 'application/json', 'Accept': 'application/json, text/event-stream'};"
                "print(u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), headers)).read().decode())"
            )
            command = [*inside, code, server.url + path, json.dumps(body)]
            return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout

        def ask(question: str) -> str:
            return fetch("/v1/chat/completions", {"messages": [{"role": "user", "content": question}]})

        assert "Parental leave is sixteen weeks with full pay. [1]" in ask("How long is parental leave?")
        assert '"embedding":[' in fetch("/v1/embeddings", {"input": [[9906, 1917]]})
        assert '"scorer":"embedding"' in fetch("/v1/rerank", {"query": "leave", "documents": ["leave", "rust"]})
        call = {"name": "search", "arguments": {"query": "parental leave"}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        assert "sixteen weeks" in fetch("/mcp", message)
        (docs / "new.md").write_text("# Parking\n\nBicycles are parked behind the greenhouse.\n")
        wait_until(lambda: "greenhouse" in ask("Where are bicycles parked?"), what="the new file in an answer")
    assert server.process.returncode == 0
    assert attempts(trace) == []
    assert list(home.iterdir()) == []
    assert trace.stat().st_size > 0


@needs_tools
def test_the_trace_shows_an_attempt_to_connect(tmp_path: Path) -> None:
    """Trace a program that does try to connect, as a control."""
    trace = tmp_path / "trace"
    code = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('{}', {}))"
    for address, port, is_attempt in (("192.0.2.1", 443, True), ("127.0.0.53", 53, True), ("127.0.0.1", 443, False)):
        subprocess.run([*strace(trace), sys.executable, "-c", code.format(address, port)], check=True)
        assert len(attempts(trace)) == is_attempt
