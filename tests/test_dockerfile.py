"""The Dockerfile, parsed and compared with the repository; scripts/prove/dockerfile.py builds it."""

import shlex
from pathlib import Path

import pytest
from dockerfile import ProofError, Stage, Step, read_dockerfile

from server.settings.reading import read_settings

ROOT = Path(__file__).parents[1]


@pytest.fixture
def stages() -> list[Stage]:
    return read_dockerfile((ROOT / "Dockerfile").read_text())


def test_instructions_are_parsed_by_stage_without_comments() -> None:
    text = "# a\nFROM one AS build\nRUN a && \\\n    # inside\n    b\n\nFROM two\nuser me\n"
    assert read_dockerfile(text) == [
        Stage("one", "build", [Step("RUN", "a &&      b")]),
        Stage("two", None, [Step("USER", "me")]),
    ]
    with pytest.raises(ProofError, match="before the first FROM"):
        read_dockerfile("RUN a\n")


def test_copied_files_exist_and_are_not_ignored(stages: list[Stage]) -> None:
    copies = [shlex.split(step.text) for stage in stages for step in stage.steps if step.instruction == "COPY"]
    sources = {word for words in copies if not words[0].startswith("--") for word in words[:-1]}
    assert {"pyproject.toml", "server", "models", "index", "docs"} <= sources
    assert [name for name in sources if not (ROOT / name).exists()] == []
    assert sources.isdisjoint((ROOT / ".dockerignore").read_text().split())


def test_the_environment_is_valid_settings_and_the_user_is_not_root(stages: list[Stage]) -> None:
    words = {step.instruction: step.text for step in stages[-1].steps}
    assert words["USER"] not in ("root", "0")
    environment = dict(pair.split("=", 1) for pair in shlex.split(words["ENV"]))
    settings = read_settings(None, environment, {})
    assert (settings.host, settings.data, settings.docs) == ("0.0.0.0", "/data", {"docs": "/docs"})
