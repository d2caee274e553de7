"""Chat requests as generation requests, and refusals."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from models.llm.constraints.forms import JsonObject, JsonSchema
from server.api.chat.request import generation_request
from server.api.chat.wire import ChatRequest
from server.errors import RequestError
from server.generation.answer_format import AnswerFormat
from server.generation.request import GenerationRequest
from server.rag.options import CitationStyle, Mode, RagOptions

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
SUB = {"type": "function", "function": {"name": "sub"}}


def ask(headers: Mapping[str, str] | None = None, **fields: Any) -> GenerationRequest:
    body = {"messages": [{"role": "user", "content": "x"}], **fields}
    return generation_request(msgspec.json.decode(msgspec.json.encode(body), type=ChatRequest), headers or {})


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", None)),
        ("auto", ("auto", None)),
        ("required", ("required", None)),
        ("any", ("required", None)),
        ({"type": "function", "function": {"name": "sub"}}, ("required", {"sub"})),
        ({"type": "function", "name": "sub"}, ("required", {"sub"})),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [SUB]}}, ("auto", {"sub"})),
    ],
)
def test_tool_choice_becomes_a_mode_and_names(choice: object, expected: tuple[str, set[str] | None]) -> None:
    tool_config = ask(tools=[ADD, SUB], tool_choice=choice).tool_config
    assert tool_config is not None
    assert (tool_config.choice, tool_config.callable_names) == expected
    assert [tool["function"]["name"] for tool in tool_config.tools] == ["add", "sub"]


def test_tool_choice_none_leaves_tools_out_of_the_prompt() -> None:
    assert ask(tools=[ADD], tool_choice="none").tools == ()
    assert ask(tools=[], tool_choice="auto").tool_config is None
    assert ask(functions=[ADD["function"]], function_call="none").tool_config is None


def test_legacy_functions_and_tools_become_the_same_messages() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": "ä"}}}
    new = ask(
        messages=[
            {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Hm."},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "3"}]},
        ]
    ).messages
    assert (new[0].tool_calls[0].id, new[0].tool_calls[0].arguments) == ("c1", '{"a": "ä"}')
    assert (new[0].reasoning, new[1].tool_call_id, new[1].text) == ("Hm.", "c1", "3")
    old = ask(
        messages=[
            {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
            {"role": "function", "name": "add", "content": "3"},
        ]
    ).messages
    assert old[0].tool_calls[0].id == old[1].tool_call_id
    assert (old[1].role, old[1].name) == ("tool", "add")


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": -1}, None),
        ({"n_predict": 3, "max_tokens": None}, 3),
    ],
)
def test_token_limits_of_every_name_become_max_tokens(fields: dict[str, Any], limit: int | None) -> None:
    assert ask(**fields).max_tokens == limit


def test_reasoning_effort_becomes_a_template_variable() -> None:
    assert ask(reasoning_effort="minimal").template_options == {"reasoning_effort": "low"}
    assert ask(reasoning_effort="none", chat_template_kwargs={"enable_thinking": True}).template_options[
        "enable_thinking"
    ]
    assert ask(reasoning_effort="none").template_options["enable_thinking"] is False
    assert ask(reasoning_effort=None).template_options == {}


def test_response_formats_become_output_constraints() -> None:
    assert ask(response_format={"type": "text"}).answer_format is None
    assert ask(response_format={"type": "json_object"}).answer_format == AnswerFormat(JsonObject(), "response_format")
    schema = {"type": "object"}
    strict_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": None}}
    for fields, field in (
        ({"response_format": {"type": "json_object", "schema": schema}}, "response_format.schema"),
        ({"response_format": strict_format}, "response_format.json_schema.schema"),
        ({"json_schema": schema}, "json_schema"),
    ):
        assert ask(**fields).answer_format == AnswerFormat(JsonSchema('{"type":"object"}'), field)


def test_sampling_fields_are_passed_on() -> None:
    assert ask().sampling == {"logit_bias": {}, "num_logprobs": None}
    sampling = ask(logprobs=True, top_logprobs=2, seed=1, top_k=None, logit_bias={"5": -1}).sampling
    assert sampling == {"logit_bias": {5: -1.0}, "num_logprobs": 2, "seed": 1}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls[0].function"),
        ({"tools": [ADD], "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        (
            {"tools": [ADD], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": []}}},
            "tool_choice.allowed_tools.tools",
        ),
        ({"functions": [ADD["function"]], "function_call": {"name": "x"}}, "function_call.name"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"n_predict": 0}, "n_predict"),
    ],
)
def test_unsupported_fields_are_refused_with_their_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(**fields)
    assert caught.value.param == param


HEADERS = {
    "X-Cloister-Collections": "handbook, policies,",
    "X-Cloister-Top-K": "3",
    "X-Cloister-Mode": "Always",
    "X-Cloister-Citations": "both",
}
OF_HEADERS = RagOptions(collections=["handbook", "policies"], top_k=3, mode=Mode.ALWAYS, citations=CitationStyle.BOTH)


@pytest.mark.parametrize(
    ("rag", "headers", "options"),
    [
        (None, {}, RagOptions()),
        ({}, {}, RagOptions()),
        (dict.fromkeys(["collections", "top_k", "filters", "mode", "citations"]), {}, RagOptions()),
        ({"unknown": 1, "mode": "never"}, {}, RagOptions(mode=Mode.NEVER)),
        (
            {"collections": ["a"], "top_k": 9, "citations": "none"},
            {},
            RagOptions(collections=["a"], top_k=9, citations=CitationStyle.NONE),
        ),
        (None, HEADERS, OF_HEADERS),
        (None, dict.fromkeys(HEADERS, " "), RagOptions()),
        (
            {"mode": "auto", "collections": ["a"], "top_k": None, "citations": "inline"},
            HEADERS,
            RagOptions(collections=["a"], top_k=3, mode=Mode.AUTO, citations=CitationStyle.INLINE),
        ),
    ],
)
def test_rag_options_come_from_the_body_or_else_from_headers(
    rag: object, headers: dict[str, str], options: RagOptions
) -> None:
    assert ask(headers, rag=rag).rag == options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Cloister-Mode", "sometimes"),
        ("X-Cloister-Citations", "footnotes"),
        ("X-Cloister-Top-K", "0"),
        ("X-Cloister-Top-K", "many"),
        ("X-Cloister-Top-K", "101"),
    ],
)
def test_an_invalid_header_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask({name: value})
    assert (caught.value.param, caught.value.code) == (name, "invalid_value")
