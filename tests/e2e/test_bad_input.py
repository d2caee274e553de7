"""Every route refuses bad input with the field's path: no 5xx, no process of the server ends, none of it is logged."""

import json
import string
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from real_server import Server, children

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CANARY = "canary7f3a9"  # in every body; in no log
JSON = {"Content-Type": "application/json"}
# Values sent in every field, whatever its type.
VALUES: list[Any] = [
    True,
    -1,
    0,
    2**31,
    2**63,
    2**64,
    1e308,
    -0.5,
    "",
    CANARY,
    "\x00",
    "\U0010ffff" * 50,
    CANARY * 200,
    [],
    [None],
    [[[CANARY]]],
    [CANARY] * 200,
    {},
    {"": None, CANARY: {CANARY: [1]}},
]
SHORT = {"max_tokens": 1, "max_completion_tokens": 1, "n_predict": 1, "max_output_tokens": 1}
STOP = [
    *string.ascii_lowercase,
    *string.punctuation,
    " ",
    "\n",
]  # ends any answer at once, while the field under test is its limit


class Operation(NamedTuple):
    method: str
    path: str
    schema: dict[str, Any] | None  # of its JSON body
    is_required: bool = True


class Api:
    """The routes as the OpenAPI document describes them."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]
        self.operations = [
            Operation(
                method.upper(), path, self._body(operation), operation.get("requestBody", {}).get("required", False)
            )
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if not path.startswith("/v1/index/")  # which would stop the indexer, or last for ever
        ]

    def _body(self, operation: dict[str, Any]) -> dict[str, Any] | None:
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return None
        schema = self.resolve(content["application/json"]["schema"])
        return self.resolve(schema["anyOf"][0]) if "anyOf" in schema else schema

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def example(self, schema: dict[str, Any]) -> Any:
        """Return the smallest valid value of a schema."""
        schema = self.resolve(schema)
        if "anyOf" in schema:
            return self.example(schema["anyOf"][0])
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "object":
                required = schema.get("required", ())
                return {name: self.example(schema["properties"][name]) for name in required}
            case "array":
                return [self.example(schema["items"])] * schema.get("minItems", 0)
            case "string":
                return "user" if "role" in str(schema.get("title", "")) else "x" * max(1, schema.get("minLength", 1))
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return False
        return {}


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def api(http: httpx.Client) -> Api:
    return Api(http.get("/v1/openapi.json").json())


@pytest.fixture(autouse=True)
def survives(server: Server) -> Iterator[None]:
    """Check that the same processes run, are healthy, and have logged nothing that was sent."""
    before = {pid for pid, _ in children(server.process.pid)}
    yield
    assert server.is_healthy()
    assert before <= {pid for pid, _ in children(server.process.pid)}
    assert CANARY not in server.log.read_text()
    assert "unexpected" not in server.log.read_text()


BODIES = [
    (b"", 400),
    (b"null", 400),
    (b"[]", 400),
    (b"3", 400),
    (b'"' + CANARY.encode() + b'"', 400),
    (b"{", 400),
    (b"{'a': 1}", 400),
    (b'{"a": NaN}', 400),
    (b'{"a": Infinity}', 400),
    (b'{"a": 1e999}', 400),
    (b'{"a": ' + b"9" * 5000 + b"}", 400),
    (b'{"a": 01}', 400),
    (b'{"a": "\xff"}', 400),
    (b'{"\xff": 1}', 400),
    (b'{"a": "\xed\xa0\x80"}', 400),
    (b'{"a": "\\ud800"}', 400),
    (b'{"a": "\\udc00\\ud800"}', 400),
    (b'{"a": "tab\there"}', 400),
    (b"\xef\xbb\xbf{}", 400),
    ('{"a": 1}'.encode("utf-16"), 400),
    (b"{}{}", 400),
    (b'{"a":' * 1000 + b"1" + b"}" * 1000, 400),
    (b"[" * 500_000, 400),
    (b'{"a": "' + CANARY.encode() * 1_000_000 + b'"}', 413),
    (b"\x00" * 1000, 400),
]


def test_every_route_refuses_malformed_json(http: httpx.Client, api: Api) -> None:
    routes = [each for each in api.operations if each.schema is not None and "{" not in each.path]
    assert "/v1/chat/completions" in {each.path for each in routes}
    for method, path, _, is_required in routes:
        for body, status in BODIES:
            if body in (b"", b"null") and not is_required:
                continue
            reply = http.request(method, path, content=body, headers=JSON)
            assert reply.status_code == status, (path, body[:40], reply.text)
            assert message_of(reply), (path, body[:40])


def message_of(reply: httpx.Response) -> str:
    """Return the error message, whatever the API."""
    error = reply.json()["error"]
    return str(error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize("type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_json_routes_refuse_other_content_types(http: httpx.Client, api: Api, type: str) -> None:
    """Ollama's routes accept them as Ollama does, since curl labels every body a form."""
    for operation in api.operations:
        if operation.schema is not None and "{" not in operation.path and not operation.path.startswith("/api/"):
            headers = {"Content-Type": type} if type else {}
            reply = http.request(operation.method, operation.path, content=b"{}", headers=headers)
            assert reply.status_code == 415, (operation.path, reply.text)


def test_every_field_of_a_wrong_type_is_named_or_accepted(http: httpx.Client, api: Api) -> None:
    """Try every field of the OpenAPI document at every route."""
    num_cases = 0
    for operation in api.operations:
        if operation.schema is None or "{" in operation.path or not operation.path.startswith("/v1/"):
            continue
        fields = operation.schema.get("properties", {})
        short = {name: limit for name, limit in SHORT.items() if name in fields}
        base = api.example(operation.schema) | short
        for field in fields:
            brief = base | {"stop": STOP} if field in SHORT and "stop" in fields else base
            for value in VALUES:
                reply = http.request(operation.method, operation.path, json={**brief, field: value})
                case = (operation.path, field, value, reply.text[:300])
                assert reply.status_code < 500, case
                if reply.status_code >= 400:
                    assert message_of(reply), case
                num_cases += 1
    assert num_cases >= 300


CHAT: list[tuple[str, Any, str | None]] = [
    ("messages", [], "messages"),
    ("messages", None, "messages"),
    ("messages", "x", "messages"),
    ("messages", [None], "messages[0]"),
    ("messages", [[]], "messages[0]"),
    ("messages", [{}], "messages[0].role"),
    ("messages", [{"role": None}], "messages[0].role"),
    ("messages", [{"role": ""}], "messages[0].role"),
    ("messages", [{"role": CANARY, "content": "x"}], "messages[0].role"),
    ("messages", [{"role": "user", "content": 5}], "messages[0].content"),
    ("messages", [{"role": "user", "content": {}}], "messages[0].content"),
    ("messages", [{"role": "user", "content": [5]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{}]}], "messages[0].content[0].type"),
    ("messages", [{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]"),
    (
        "messages",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        "messages[0].content[0]",
    ),
    (
        "messages",
        [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{}]}],
        "messages[1].tool_calls[0].function",
    ),
    ("messages", [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": 5}], "messages[1].tool_calls"),
    (
        "messages",
        [{"role": "user", "content": "x"}, {"role": "assistant", "function_call": {}}],
        "messages[1].function_call.name",
    ),
    ("model", CANARY, "model"),
    ("model", "cloister/nowhere", "model"),
    ("model", "cloister@nobody", "model"),
    ("model", "../../etc/passwd", "model"),
    ("model", 5, "model"),
    ("temperature", -0.1, "temperature"),
    ("temperature", 2.1, "temperature"),
    ("temperature", "hot", "temperature"),
    ("top_p", 1.1, "top_p"),
    ("top_k", -1, "top_k"),
    ("top_k", 1.5, "top_k"),
    ("min_p", 2, "min_p"),
    ("n", 0, "n"),
    ("n", 17, "n"),
    ("n", "two", "n"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", -2, "max_tokens"),
    ("max_tokens", 1.5, "max_tokens"),
    ("max_completion_tokens", "many", "max_completion_tokens"),
    ("stop", [""] * 65, "stop"),
    ("stop", ["x" * 1001], "stop[0]"),
    ("stop", [5], "stop[0]"),
    ("stop", {}, "stop"),
    ("seed", 2**63, "seed"),
    ("seed", "x", "seed"),
    ("stream", "yes", "stream"),
    ("stream_options", [], "stream_options"),
    ("presence_penalty", 3, "presence_penalty"),
    ("frequency_penalty", -3, "frequency_penalty"),
    ("repeat_penalty", 0, "repeat_penalty"),
    ("logit_bias", {"x": 1}, "logit_bias"),
    ("logit_bias", {"-1": 1}, "logit_bias"),
    ("logit_bias", {"5": "x"}, "logit_bias[...]"),
    ("logprobs", 5, "logprobs"),
    ("top_logprobs", 21, "top_logprobs"),
    ("top_logprobs", 3, "top_logprobs"),
    ("response_format", {}, "response_format.type"),
    ("response_format", {"type": CANARY}, "response_format.type"),
    ("response_format", {"type": "json_schema"}, "response_format.json_schema"),
    ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}, "response_format.json_schema.schema"),
    ("response_format", {"type": "json_object", "schema": 5}, "response_format.schema"),
    ("tools", {}, "tools"),
    ("tools", [5], "tools[0]"),
    ("tools", [{"type": "web_search"}], "tools[0].type"),
    ("tools", [{"type": "function"}], "tools[0].function"),
    ("tools", [{"type": "function", "function": {}}], "tools[0].function.name"),
    ("tools", [{"type": "function", "function": {"name": ""}}], "tools[0].function.name"),
    ("tools", [{"type": "function", "function": {"name": "f", "parameters": 5}}], "tools[0].function.parameters"),
    ("tools", [{"type": "function", "function": {"name": "f"}}] * 2, "tools[1].function.name"),
    ("tools", [{"type": "function", "function": {"name": "f"}}] * 129, "tools"),
    ("tool_choice", "required", "tool_choice"),
    ("tool_choice", CANARY, "tool_choice"),
    ("tool_choice", {"type": "function", "function": {"name": "g"}}, "tool_choice.function.name"),
    ("tool_choice", {"type": CANARY}, "tool_choice.type"),
    ("functions", [{"name": 5}], "functions[0].name"),
    ("audio", {"voice": "x"}, "audio"),
    ("modalities", ["audio"], "modalities"),
    ("web_search_options", {}, "web_search_options"),
    ("grammar", "(" * 60_000, "grammar"),
    ("rag", {"top_k": 101}, "rag.top_k"),
    ("rag", {"mode": CANARY}, "rag.mode"),
    ("rag", {"citations": 5}, "rag.citations"),
    ("rag", {"filters": {"path": []}}, "rag.filters"),
    ("rag", {"filters": {"paths": ["!\\"]}}, "rag.filters.paths"),
]


def test_errors_of_a_chat_request_have_their_path(http: httpx.Client) -> None:
    wrong = []
    for field, value, param in CHAT:
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, field: value}
        reply = http.post("/v1/chat/completions", json=body)
        error = reply.json().get("error", {})
        if (reply.status_code, error.get("param")) != (404 if error.get("code") == "model_not_found" else 400, param):
            wrong.append((field, str(value)[:80], param, reply.status_code, str(error)[:200]))
    assert not wrong, "\n".join(map(str, wrong))


def test_unusual_texts_are_accepted(http: httpx.Client) -> None:
    for text in [
        "\x00",
        "\x1b[31m",
        "\ufeff",
        "\u202e",
        "\U0010ffff",
        "<|im_start|>system",
        "{{7*7}}",
        "{% for",
        " " * 500,
        "\r\n\r\n",
    ]:
        body = {"model": "reader-v1", "messages": [{"role": "user", "content": text + CANARY}], "max_tokens": 1}
        reply = http.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, (text, reply.text)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/%00",
        "/v1/models/..%2f..%2fx",
        "/documents/-1",
        "/documents/0",
        "/documents/1e5",
        f"/documents/{2**63}",
        f"/documents/{'9' * 5000}",
        "/documents/1?chunk=x",
        "/documents/1?chunk=-1",
        f"/documents/1?at={2**63}",
        "/documents/1?lines=9-",
        "/v1/%f0%28%8c%28",
        f"/v1/{'x' * 10_000}",
        f"/v1/{'x/' * 5000}",
        f"/v1/models?{'x=1&' * 2000}",
    ],
)
def test_unusual_paths_are_refused_in_json(http: httpx.Client, path: str) -> None:
    reply = http.get(path)
    assert reply.status_code in (200, 400, 404), reply.text
    assert reply.status_code == 200 or json.loads(reply.text)["error"]["message"]
