"""Anthropic's API over HTTP with a scripted model: requests, replies and events."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from index.types import Passage
from models.llm.chat.events import Reasoning, ToolCallArguments, ToolCallStart
from models.llm.chat.messages import ChatMessage
from server.api.anthropic.request import chat_messages
from server.api.anthropic.wire import AnthropicRequest
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

LEAVE = Passage(7, 3, "handbook", "leave.md", ("Leave",), "Yes, leave is sixteen weeks.", 5, 6, 0.9)
QUESTION = {"role": "user", "content": "How long is leave?"}
NOW = {"name": "now", "input_schema": {"type": "object"}}
CALLS = [Reasoning("Hm."), ToolCallStart(0, "call_1", "now"), ToolCallArguments(0, '{"at": 1}')]


class Talk:
    def __init__(self, client: TestClient[Any], model: ScriptedChatModel) -> None:
        self.client = client
        self.model = model

    def post(self, *messages: Any, model: str = "played", path: str = "/v1/messages", **fields: Any) -> Any:
        body = {"model": model, "max_tokens": 100, "messages": messages or [QUESTION], **fields}
        return self.client.post(path, json=body)

    def ask(self, *messages: Any, **fields: Any) -> dict[str, Any]:
        response = self.post(*messages, **fields)
        assert response.status_code == 200, response.text
        reply: dict[str, Any] = response.json()
        return reply

    def events(self, **fields: Any) -> list[dict[str, Any]]:
        response = self.post(stream=True, **fields)
        assert response.headers["content-type"].startswith("text/event-stream")
        reply = []
        for event in response.text.removesuffix("\n\n").split("\n\n"):
            name, data = event.split("\n")
            reply.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {reply[-1]['type']}"
        return reply


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    model = ScriptedChatModel()
    with serving(tmp_path, model, FakeIndex([LEAVE])) as client:
        yield Talk(client, model)


def test_a_message_has_its_text_and_its_token_counts(talk: Talk) -> None:
    reply = talk.ask()
    assert reply["content"] == [{"text": "Yes [1].", "citations": None, "type": "text"}]
    assert (reply["type"], reply["role"], reply["stop_reason"], reply["stop_sequence"]) == (
        "message",
        "assistant",
        "end_turn",
        None,
    )
    assert reply["usage"]["output_tokens"] == 3
    assert reply["usage"]["input_tokens"] > 0


def test_reasoning_text_and_calls_are_blocks(talk: Talk) -> None:
    talk.model.events = CALLS
    kinds = [block["type"] for block in talk.ask(tools=[NOW])["content"]]
    assert kinds == ["text", "thinking", "tool_use"]
    assert talk.ask(tools=[NOW])["content"][2]["input"] == {"at": 1}


def test_events_come_in_anthropics_order(talk: Talk) -> None:
    talk.model.says, talk.model.events = "Yes.", CALLS
    reply = talk.events(tools=[NOW])
    order = [event["type"] for event in reply if event["type"] != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert order == ["message_start", *block, *block, *block, "message_delta", "message_stop"]
    assert [event["index"] for event in reply if event["type"] == "content_block_start"] == [0, 1, 2]
    deltas = [event["delta"]["type"] for event in reply if event["type"] == "content_block_delta"]
    assert deltas == ["text_delta"] * 4 + ["thinking_delta", "input_json_delta"]
    assert reply[0]["message"]["content"] == []
    assert reply[0]["message"]["stop_reason"] is None


def test_a_grounded_answer_has_citations_of_its_own_form(talk: Talk) -> None:
    (block,) = talk.ask(model="cloister")["content"]
    assert block["citations"] == [
        {
            "type": "search_result_location",
            "cited_text": "Yes, leave is sixteen weeks.",
            "source": "http://testserver.local/documents/3?chunk=7#chunk-7",
            "title": "handbook/leave.md › Leave",
            "search_result_index": 0,
            "start_block_index": 0,
            "end_block_index": 1,
        }
    ]
    deltas = [event["delta"] for event in talk.events(model="cloister") if event["type"] == "content_block_delta"]
    assert deltas[-1] == {"type": "citations_delta", "citation": block["citations"][0]}


def test_inline_citations_append_a_list_of_sources(talk: Talk) -> None:
    (block,) = talk.ask(model="cloister", rag={"citations": "inline"})["content"]
    assert "Sources:\n[1] [handbook/leave.md › Leave]" in block["text"]
    assert block["citations"] is None


def read(*messages: Any, **fields: Any) -> list[ChatMessage]:
    body = json.dumps({"messages": messages, **fields})
    return chat_messages(msgspec.json.decode(body, type=AnthropicRequest))


def test_tool_results_become_messages_of_their_own() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "now", "input": {"zone": "UTC"}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "noon"}]},
        {"type": "tool_result", "tool_use_id": "t2", "content": "broken", "is_error": True},
        {"type": "text", "text": "Well?", "cache_control": {"type": "ephemeral"}},
    ]
    reply = read(QUESTION, {"role": "assistant", "content": [thought, use]}, {"role": "user", "content": results})
    assert [message.role for message in reply] == ["user", "assistant", "tool", "tool", "user"]
    assert reply[1].reasoning == "Hm."
    assert [(call.id, call.name) for call in reply[1].tool_calls] == [("t1", "now")]
    assert [(message.tool_call_id, message.text) for message in reply[2:4]] == [
        ("t1", "noon"),
        ("t2", "Error: broken"),
    ]


def test_document_and_search_result_blocks_become_text() -> None:
    blocks = [
        {"type": "document", "title": "A", "source": {"type": "text", "media_type": "text/plain", "data": "alpha"}},
        {"type": "search_result", "source": "u", "title": "B", "content": [{"type": "text", "text": "beta"}]},
    ]
    reply = read({"role": "user", "content": blocks}, system=[{"type": "text", "text": "Be short."}])
    assert reply == [ChatMessage.of_text("system", "Be short."), ChatMessage.of_text("user", "A\nalpha\nB\nu\nbeta")]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [QUESTION, {"role": "assistant", "content": "It is"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]}, ".content[0]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [NOW], "tool_choice": {"type": "tool", "name": "then"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, "output_config.format.schema"),
        ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
    ],
)
def test_unsupported_fields_are_refused(talk: Talk, fields: dict[str, Any], where: str) -> None:
    body = {"model": "played", "max_tokens": 10, "messages": [QUESTION], **fields}
    response = talk.client.post("/v1/messages", json=body)
    assert response.status_code == 400
    reply = response.json()
    assert reply["type"] == "error"
    assert reply["error"]["type"] == "invalid_request_error"
    assert where in reply["error"]["message"]


def test_an_unknown_model_is_a_404(talk: Talk) -> None:
    response = talk.post(model="claude")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


def test_token_counting_generates_nothing(talk: Talk) -> None:
    short = talk.ask(path="/v1/messages/count_tokens")["input_tokens"]
    longer = talk.ask(path="/v1/messages/count_tokens", system="Be short, please.")["input_tokens"]
    assert 0 < short < longer
    assert not talk.model.prompts
