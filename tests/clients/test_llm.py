"""Simon Willison's `llm`, set up by the file that docs/clients.md shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from real_server import Server

pytest.importorskip("llm")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()


def ask(server: Server, folder: Path, *arguments: str) -> str:
    models = PAGE.split("## llm\n", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    (folder / "extra-openai-models.yaml").write_text(models.replace("http://127.0.0.1:8000", server.url))
    result = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "cloister", "--key", "none", "--no-log", *arguments],
        env={**os.environ, "LLM_USER_PATH": str(folder), "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("arguments", [(), ("--no-stream",), ("--system", "Be brief.")])
def test_a_question_is_answered(server: Server, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "sixteen weeks" in ask(server, tmp_path, *arguments, "How long is parental leave?")


def test_an_answer_follows_a_schema_from_the_command_line(server: Server, tmp_path: Path) -> None:
    answer = json.loads(ask(server, tmp_path, "--schema", "weeks int", "How long is parental leave?"))
    assert isinstance(answer["weeks"], int)
