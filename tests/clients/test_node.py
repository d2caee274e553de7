"""OpenAI's client from npm, where node and the package are there: `npm --prefix tests/clients/node ci`."""

import shutil
import subprocess
from pathlib import Path

import pytest
from real_server import Server

NODE = Path(__file__).parent / "node"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no node"),
    pytest.mark.skipif(not (NODE / "node_modules").is_dir(), reason="npm --prefix tests/clients/node ci"),
]


def test_openai_s_npm_client_gets_an_answer(server: Server) -> None:
    command = ["node", str(NODE / "contract.mjs"), server.url]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 10
