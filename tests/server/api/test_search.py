"""POST /v1/search, with a fake index and a scripted model."""

from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from index.types import Passage
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving


def passage(number: int, size: int) -> Passage:
    return Passage(number, number, "handbook", f"{number}.md", (), f"{number} " * size, 1, 1, 1 / number)


def outcome(client: TestClient[Any], path: str, **fields: Any) -> tuple[str, str]:
    body = {"query": "what is there?", "explain": True, "expect": path, **fields}
    (file,) = client.post("/v1/search", json=body).raise_for_status().json()["explanation"]["expected"]
    return file["outcome"], file["reason"]


@pytest.mark.parametrize(("context_length", "room_for"), [(20_000, 3), (2_000, 2), (700, 1)])
def test_the_explanation_names_files_without_room_in_the_prompt(
    tmp_path: Path, context_length: int, room_for: int
) -> None:
    model, sizes = ScriptedChatModel(), (20, 200, 2_000)
    model.context_length = context_length
    with serving(tmp_path, model, FakeIndex([passage(i, size) for i, size in enumerate(sizes, 1)])) as client:
        reply = [outcome(client, f"{i}.md") for i in (1, 2, 3)]
    assert [outcome for outcome, _ in reply] == ["found"] * room_for + ["no_room"] * (3 - room_for)
    assert all(reason.startswith("it was found, and not given to the model: ") for _, reason in reply[room_for:])


def test_explaining_remembers_no_conversation(tmp_path: Path) -> None:
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([passage(1, 20)])) as client:
        outcome(client, "1.md")
        answer = client.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "what is there?"}]}
        ).json()
    assert [p["is_new"] for p in answer["rag"]["passages"]] == [True]
