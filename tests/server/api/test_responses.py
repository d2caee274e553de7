"""/v1/responses over HTTP with a scripted model: order of events, items as messages, refusals, stored items."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from index.types import Passage
from models.llm.chat.events import Content, ToolCallArguments, ToolCallStart
from models.llm.chat.messages import ChatMessage, ToolCall
from server.api.responses.messages import parse_input_items
from server.api.responses.replay import replay_events
from server.api.responses.request import generation_request
from server.api.responses.tools import parse_file_search
from server.api.responses.wire import ResponseObject, ResponseRequest
from server.errors import RequestError
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

LEAVE = Passage(7, 3, "handbook", "people/leave.md", ("Leave",), "Leave is long. It is sixteen weeks.", 5, 6, 0.9)
CALL = [ToolCallStart(0, "call_1", "now"), ToolCallArguments(0, '{"a":1}')]
NOW = {"type": "function", "name": "now", "parameters": {"type": "object"}}


class Talk:
    def __init__(self, client: TestClient[Any], model: ScriptedChatModel) -> None:
        self.client = client
        self.model = model

    def post(self, **fields: Any) -> Any:
        return self.client.post("/v1/responses", json={"input": "How long is leave?", **fields})

    def ask(self, **fields: Any) -> dict[str, Any]:
        response = self.post(**fields)
        assert response.status_code == 200, response.text
        body_of_reply: dict[str, Any] = response.json()
        return body_of_reply

    def stream(self, **fields: Any) -> list[dict[str, Any]]:
        frames = [frame.split("\n") for frame in self.post(stream=True, **fields).text.split("\n\n") if frame]
        events = [json.loads(data.removeprefix("data: ")) for _, data in frames]
        assert [name.removeprefix("event: ") for name, _ in frames] == [event["type"] for event in events]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        return events


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    model = ScriptedChatModel()
    with serving(tmp_path, model, FakeIndex([LEAVE])) as client:
        yield Talk(client, model)


def _ask(**fields: Any) -> Any:
    data = msgspec.convert(fields, ResponseRequest)
    return generation_request(data, parse_input_items(data))


def test_a_grounded_id_is_cited_by_links_and_remembers_along_the_chain(talk: Talk) -> None:
    first = talk.ask(model="cloister")
    (message,) = first["output"]
    (annotation,) = message["content"][0]["annotations"]
    assert annotation["type"] == "url_citation"
    assert (annotation["start_index"], annotation["end_index"]) == (4, 7)
    assert len(first["rag"]["passages"]) == 1
    talk.ask(model="cloister", input="Why?", previous_response_id=first["id"])
    before, after = talk.model.prompts
    assert after.startswith(before.removesuffix(">")), "what was read is read again as it was"
    assert after.count("sixteen weeks") == 1


def test_calls_come_after_the_text_and_every_item_is_done(talk: Talk) -> None:
    talk.model.says, talk.model.events = "Let me see.", CALL
    events = talk.stream(model="played", tools=[NOW])
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["id"] for item in done] == added
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"] == done
    assert [item["type"] for item in done] == ["message", "function_call"]
    assert (done[1]["arguments"], done[1]["call_id"]) == ('{"a":1}', "call_1")


@pytest.mark.parametrize("model", ["played", "cloister"])
def test_a_replay_has_the_events_of_the_live_stream(talk: Talk, model: str) -> None:
    talk.model.says = "It is [1]."
    if model == "played":
        talk.model.events = CALL
    live = talk.stream(model=model, tools=[NOW])
    response = msgspec.convert(live[-1]["response"], ResponseObject)
    replay = json.loads(msgspec.json.encode(replay_events(response)))
    assert replay[-1] == {**live[-1], "sequence_number": len(replay) - 1}
    kinds = [[kind for kind, _ in itertools.groupby(event["type"] for event in events)] for events in (live, replay)]
    assert kinds[0][2:] == kinds[1][3:], "but for the beginning, and for how texts are cut into pieces"


def test_grounded_text_beside_calls_keeps_its_citations(talk: Talk) -> None:
    talk.model.says, talk.model.events = "It is [1].", CALL
    events = talk.stream(model="cloister", tools=[NOW])
    message, call = events[-1]["response"]["output"]
    assert len(message["content"][0]["annotations"]) == 1
    assert call["type"] == "function_call"
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert {item["id"] for item in done} == {message["id"], call["id"]}


def test_items_of_one_model_turn_become_one_message() -> None:
    ask = _ask(
        instructions="Be kind.",
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
            {"type": "function_call", "call_id": "c1", "name": "now", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "now", "arguments": {"a": 1}},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "noon"}]},
            {"type": "file_search_call", "id": "fs_1", "queries": []},
            {"role": "assistant", "content": "It is noon."},
            {"role": "assistant", "content": "Really."},
        ],
    )
    calls = (ToolCall("c1", "now", "{}"), ToolCall("c2", "now", '{"a": 1}'))
    assert ask.messages == [
        ChatMessage.of_text("system", "Be kind."),
        ChatMessage.of_text("user", "Hi"),
        ChatMessage.of_text("assistant", "Yes.", calls, reasoning="Hm."),
        ChatMessage.of_text("tool", "noon", tool_call_id="c1"),
        ChatMessage.of_text("assistant", "It is noon."),
        ChatMessage.of_text("assistant", "Really."),
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True, "store": False}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].vector_store_ids"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["a"], "filters": 3}]}, "tools[0].filters"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["a"]}] * 2}, "tools[1]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}, "tools": [NOW]}, "tool_choice.name"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
    ],
)
def test_invalid_requests_are_refused_with_the_field_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refusal:
        _ask(**{**({"input": "x"} if fields and "input" not in fields else {}), **fields})
    assert refusal.value.param == param


def test_tool_choice_none_disables_the_file_search() -> None:
    tool = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    request = {"input": "x", "tools": [tool]}
    assert parse_file_search(msgspec.convert({**request, "tool_choice": "none"}, ResponseRequest)) is None
    assert parse_file_search(msgspec.convert({**request, "tool_choice": "required"}, ResponseRequest)) is not None
    assert _ask(**request, tool_choice="required").tool_config is None


def test_input_items_are_listed_and_may_be_references(talk: Talk) -> None:
    first = talk.ask(model="played")
    output_id = first["output"][0]["id"]
    items = [
        {"role": "user", "content": "Hi"},
        {"type": "item_reference", "id": output_id},
        {"role": "user", "content": "?"},
    ]
    second = talk.ask(model="played", input=items)
    assert "<assistant>Yes [1].</assistant>" in talk.model.prompts[-1]
    url = f"/v1/responses/{second['id']}/input_items"
    page = talk.client.get(url, params={"limit": 2, "order": "asc"}).json()
    assert [item.get("role") for item in page["data"]] == ["user", "assistant"]
    assert page["has_more"]
    rest = talk.client.get(url, params={"order": "asc", "after": page["last_id"]}).json()
    assert [item["content"] for item in rest["data"]] == [[{"type": "input_text", "text": "?"}]]
    assert talk.client.get(url, params={"after": "msg_x"}).status_code == 400
    items[1]["id"] = "msg_x"
    assert talk.post(input=items).json()["error"]["param"] == "input[1].id"


def test_a_failure_in_a_stream_ends_it_with_error_events(talk: Talk) -> None:
    async def fail(*_: object, **__: object) -> Any:
        yield [Content("Yes")]
        raise ValueError("secret")

    talk.model.generate = fail  # type: ignore[method-assign]
    events = talk.stream(model="played")
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["status"] == "failed"
    assert "secret" not in json.dumps(events)
    assert talk.client.get(f"/v1/responses/{events[-1]['response']['id']}").status_code == 404


@pytest.mark.parametrize("method", ["get", "delete"])
def test_an_unknown_response_is_a_404(talk: Talk, method: str) -> None:
    assert getattr(talk.client, method)("/v1/responses/resp_x").status_code == 404
    assert talk.client.post("/v1/responses/resp_x/cancel").status_code == 404


def test_invalid_fields_named_like_injected_dependencies_are_refused_as_others(talk: Talk) -> None:
    """Litestar reports an invalid field of an injected dependency's name as an error of the server."""
    for field in ("background", "store", "stream"):
        response = talk.post(**{field: "yes"})
        assert (response.status_code, response.json()["error"]["param"]) == (400, field)
