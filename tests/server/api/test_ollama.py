"""Ollama's API over HTTP with a scripted model: requests, replies and frames."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from index.types import Passage
from models.llm.chat.events import Reasoning, ToolCallArguments, ToolCallStart
from server.api.ollama.request import parse_keep_alive
from server.errors import RequestError
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

LEAVE = Passage(7, 3, "handbook", "leave.md", ("Leave",), "Leave is sixteen weeks.", 5, 6, 0.9)
QUESTION = {"role": "user", "content": "How long is leave?"}
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
SOURCES = "\n\nSources:\n[1] [handbook/leave.md › Leave](http://testserver.local/documents/3?chunk=7#chunk-7)"


class OllamaApi:
    def __init__(self, client: TestClient[Any], model: ScriptedChatModel) -> None:
        self.client = client
        self.model = model

    def chat(self, *messages: dict[str, Any], model: str = "played", **fields: Any) -> dict[str, Any]:
        body = {"model": model, "messages": messages or [QUESTION], "stream": False, **fields}
        response = self.client.post("/api/chat", json=body)
        assert response.status_code == 200, response.text
        reply: dict[str, Any] = response.json()
        return reply

    def frames(self, path: str, **fields: Any) -> list[dict[str, Any]]:
        response = self.client.post(path, json={"model": "played", **fields})
        assert response.headers["content-type"].startswith("application/x-ndjson")
        assert response.text.endswith("\n")
        return [json.loads(line) for line in response.text.splitlines()]

    def refusal(self, path: str, **fields: Any) -> tuple[int, str]:
        response = self.client.post(path, json=fields)
        body = response.json()
        assert body.keys() == {"error"}
        return response.status_code, body["error"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[OllamaApi]:
    model = ScriptedChatModel()
    with serving(tmp_path, model, FakeIndex([LEAVE])) as client:
        yield OllamaApi(client, model)


def test_a_stream_is_the_default_and_ends_with_the_counts(api: OllamaApi) -> None:
    *deltas, last = api.frames("/api/chat", messages=[QUESTION])
    assert "".join(frame["message"]["content"] for frame in deltas) == "Yes [1]."
    assert not any(frame["done"] or "eval_count" in frame for frame in deltas)
    assert last["done"] is True
    assert last["done_reason"] == "stop"
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["eval_count"] == 3
    assert all(isinstance(last[f"{name}_duration"], int) for name in ("total", "load", "prompt_eval", "eval"))


def test_an_unstreamed_reply_is_one_frame(api: OllamaApi) -> None:
    api.model.events = [Reasoning("Hm."), ToolCallStart(0, "call_1", "now"), ToolCallArguments(0, '{"at": [1.5]}')]
    reply = api.chat(tools=[NOW])
    assert reply["done"] is True
    assert reply["message"]["thinking"] == "Hm."
    assert reply["message"]["tool_calls"] == [
        {"id": "call_1", "function": {"name": "now", "arguments": {"at": [1.5]}, "index": 0}}
    ]


def test_a_streamed_call_is_one_frame(api: OllamaApi) -> None:
    api.model.says = ""
    api.model.events = [
        event
        for i in range(2)
        for event in (ToolCallStart(i, f"c{i}", "now"), ToolCallArguments(i, '{"a"'), ToolCallArguments(i, f":{i}}}"))
    ]
    *deltas, last = api.frames("/api/chat", messages=[QUESTION], tools=[NOW])
    calls = [frame["message"]["tool_calls"] for frame in deltas]
    assert [[call["function"]["arguments"] for call in each] for each in calls] == [[{"a": 0}], [{"a": 1}]]
    assert "tool_calls" not in last["message"]


def test_a_grounded_answer_lists_its_sources_in_the_text(api: OllamaApi) -> None:
    reply = api.chat(model="cloister/handbook:latest")
    assert reply["message"]["content"] == "Yes [1]." + SOURCES
    assert reply["model"] == "cloister/handbook:latest"
    assert [each["number"] for each in reply["rag"]["passages"]] == [1]


def test_the_request_selects_the_citation_style(api: OllamaApi) -> None:
    assert api.chat(model="cloister", rag={"citations": "none"})["message"]["content"] == "Yes."


def test_options_become_sampling(api: OllamaApi) -> None:
    options = {"temperature": 0.5, "seed": -1, "top_k": -1, "num_ctx": 4096, "num_predict": -2, "stop": ["\n"]}
    api.chat(options=options, think="low")
    request = api.model.requests[0]
    assert (request["sampling"].temperature, request["sampling"].seed, request["sampling"].top_k) == (0.5, None, 0)
    assert request["max_tokens"] is None
    assert list(request["stop"]) == ["\n"]


def test_messages_with_calls_become_chat_messages(api: OllamaApi) -> None:
    call = {"function": {"name": "now", "arguments": {"zone": "UTC"}}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call], "thinking": "Hm."}
    api.chat(QUESTION, answer, {"role": "tool", "content": "noon", "tool_name": "now"}, tools=[NOW])
    assert "noon" in api.model.prompts[0]


def test_generate_puts_the_prompt_into_the_template(api: OllamaApi) -> None:
    *deltas, last = api.frames("/api/generate", prompt="Say yes.", system="Be short.")
    assert "".join(frame["response"] for frame in deltas) == "Yes [1]."
    assert (last["response"], last["done"]) == ("", True)
    assert "Be short." in api.model.prompts[0]
    assert "Say yes." in api.model.prompts[0]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), ("5m", "load"), (0, "unload"), ("0s", "unload")])
def test_a_request_without_prompt_loads_or_unloads_the_model(
    api: OllamaApi, path: str, keep_alive: Any, reason: str
) -> None:
    reply = api.client.post(path, json={"model": "played", "keep_alive": keep_alive}).json()
    assert (reply["done"], reply["done_reason"]) == (True, reason)
    assert not api.model.prompts


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        (0, 0),
        (1.5, 1.5),
        (-1, math.inf),
        ("-1", math.inf),
        ("-1m", math.inf),
        (1e300, math.inf),
        ("9999999h", math.inf),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
    ],
)
def test_keep_alive_parses_numbers_and_durations(value: Any, seconds: float | None) -> None:
    assert parse_keep_alive(value) == seconds


@pytest.mark.parametrize("value", ["soon", "5 m", "m", "nan"])
def test_an_invalid_keep_alive_is_refused(value: str) -> None:
    with pytest.raises(RequestError):
        parse_keep_alive(value)


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("/api/chat", {"messages": [{"role": "judge", "content": ""}]}, "messages[0].role: Unknown role 'judge'"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["aGk="]}]}, "messages[0].images: "),
        ("/api/chat", {"messages": [QUESTION], "tools": [{"type": "function"}]}, "tools[0].function: "),
        ("/api/chat", {"messages": [QUESTION], "tools": [NOW, NOW]}, "tools[1].function.name: "),
        ("/api/chat", {"messages": [QUESTION], "format": "yaml"}, "format"),
        ("/api/chat", {"messages": [QUESTION], "format": {"not": {}}}, "format.not"),
        ("/api/chat", {"messages": [QUESTION], "options": {"top_p": 7}}, "options.top_p"),
        ("/api/chat", {"messages": [QUESTION], "keep_alive": "soon"}, "keep_alive: "),
        ("/api/generate", {"prompt": "x", "images": ["aGk="]}, "images: "),
        ("/api/generate", {"prompt": "x", "context": [1]}, "context: "),
        ("/api/generate", {"prompt": "x", "template": "{{ .Prompt }}"}, "template: "),
        ("/api/embed", {"model": "played", "input": "x"}, "model 'played' not found"),
    ],
)
def test_unsupported_fields_are_refused(api: OllamaApi, path: str, fields: dict[str, Any], message: str) -> None:
    status, error = api.refusal(path, **fields)
    assert status == (404 if "not found" in message else 400)
    assert message in error


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/show"])
def test_an_unknown_model_error_has_ollamas_words(api: OllamaApi, path: str) -> None:
    status, error = api.refusal(path, model="nope:1b", messages=[QUESTION], prompt="x")
    assert status == 404
    assert error.startswith("model 'nope:1b' not found")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/json"])
def test_any_content_type_is_read_as_json(api: OllamaApi, kind: str) -> None:
    response = api.client.post("/api/show", content='{"name":"played"}', headers={"content-type": kind})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_an_invalid_body_is_refused(api: OllamaApi, content: bytes) -> None:
    response = api.client.post("/api/chat", content=content)
    assert response.status_code == 400
    assert isinstance(response.json()["error"], str)


def test_models_are_listed_with_a_tag_and_described(api: OllamaApi) -> None:
    models = api.client.get("/api/tags").json()["models"]
    names = [model["name"] for model in models]
    assert names[0] == "cloister:latest"
    assert {"cloister/handbook:latest", "played:latest", "fake-embedder:latest"} <= set(names)
    for model in models:
        assert model["model"] == model["name"]
        assert len(model["digest"]) == 64
        description = api.client.post("/api/show", json={"model": model["name"]}).json()
        assert description["capabilities"] == model["capabilities"]
        family = description["model_info"]["general.architecture"]
        assert description["model_info"][f"{family}.context_length"] > 0
    assert len({model["digest"] for model in models}) == len(models)
    assert models[0]["details"]["quantization_level"] == "Q4_K_M"
    assert models[0]["details"]["parameter_size"] == "1.0M"


def test_ps_lists_the_loaded_models(api: OllamaApi) -> None:
    (model,) = api.client.get("/api/ps").json()["models"]
    assert (model["name"], model["context_length"]) == ("played:latest", 20_000)


def test_texts_are_embedded(api: OllamaApi) -> None:
    reply = api.client.post("/api/embed", json={"model": "fake-embedder:latest", "input": ["one", "two"]}).json()
    assert len(reply["embeddings"]) == 2
    assert reply["prompt_eval_count"] > 0
    old = api.client.post("/api/embeddings", json={"model": "fake-embedder", "prompt": "one"}).json()
    assert old["embedding"] == reply["embeddings"][0]
    assert api.client.post("/api/embed", json={"model": "fake-embedder"}).json()["embeddings"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:00"),
    ],
)
def test_requests_that_change_models_are_refused(api: OllamaApi, method: str, path: str) -> None:
    response = api.client.request(method, path, json={"model": "played"})
    assert response.status_code == 403
    assert "settings" in response.json()["error"]


def test_the_root_answers_ollamas_liveness_check(api: OllamaApi) -> None:
    assert api.client.get("/").text == "Ollama is running"
    assert api.client.head("/").status_code == 200
    assert api.client.get("/api/version").json()["version"].count(".") == 2
