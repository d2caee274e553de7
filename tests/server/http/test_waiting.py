"""A slow reply begins before its first token, and an early refusal has an error status all the same."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from models.errors import ProcessFailed, QueueFull
from models.llm.chat.events import TurnEvent
from models.llm.chat.prompt import Prompt
from server.generation import stream as answer
from server.http import sse
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, frames, serving

BODY: dict[str, Any] = {"model": "played", "messages": [{"role": "user", "content": "So?"}]}


class SlowModel(ScriptedChatModel):
    """A model that waits for `wait_s`, then answers or fails."""

    def __init__(self, wait_s: float, error: Exception | None = None) -> None:
        super().__init__()
        self._wait_s = wait_s
        self._error = error

    async def generate(
        self, prompt: Prompt, sampling: object, **arguments: Any
    ) -> AsyncGenerator[list[TurnEvent], None]:
        await asyncio.sleep(self._wait_s)
        if self._error:
            raise self._error
        async for events in super().generate(prompt, sampling, **arguments):
            yield events


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "_FIRST_EVENT_S", 0.05)
    monkeypatch.setattr(sse, "_SILENCE_S", 0.05)


def test_a_stream_sends_comments_until_the_first_token(tmp_path: Path) -> None:
    with serving(tmp_path, SlowModel(0.5), FakeIndex([])) as client:
        text = client.post("/v1/chat/completions", json={**BODY, "stream": True}).text
    assert text.startswith('data: {"id":')
    assert text.count(": keep-alive\n\n") >= 2
    messages = frames(text.replace(": keep-alive\n\n", ""))
    assert "".join(frame["choices"][0]["delta"].get("content", "") for frame in messages) == "Yes [1]."


def test_a_whole_reply_waits_for_a_slow_answer(tmp_path: Path) -> None:
    with serving(tmp_path, SlowModel(0.3), FakeIndex([])) as client:
        reply = client.post("/v1/chat/completions", json=BODY)
    assert reply.json()["choices"][0]["message"]["content"] == "Yes [1]."


@pytest.mark.parametrize("stream", [True, False])
def test_an_early_refusal_has_an_error_status(tmp_path: Path, stream: bool) -> None:
    with serving(tmp_path, SlowModel(0, QueueFull(3, retry_after=2)), FakeIndex([])) as client:
        reply = client.post("/v1/chat/completions", json={**BODY, "stream": stream})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")


def test_a_late_failure_is_a_frame_in_a_stream_and_a_status_elsewhere(tmp_path: Path) -> None:
    with serving(tmp_path, SlowModel(0.3, ProcessFailed("engine", "it died")), FakeIndex([])) as client:
        streamed = client.post("/v1/chat/completions", json={**BODY, "stream": True})
        whole = client.post("/v1/chat/completions", json=BODY)
    assert streamed.status_code == 200
    assert '"code":"process_failed"' in streamed.text
    assert "[DONE]" not in streamed.text
    assert whole.status_code == 503
