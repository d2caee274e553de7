"""The chat API through OpenAI's own client, which validates replies strictly."""

import json
import math
import re
from collections import defaultdict
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from real_server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PARENTAL = "How long is parental leave?"
SENTENCE = "Parental leave is sixteen weeks with full pay."
ASKED: list[Any] = [{"role": "user", "content": PARENTAL}]
GROUNDED_AND_PLAIN = pytest.mark.parametrize("model", ["cloister", "reader-v1"])


def tool(name: str, **properties: Any) -> Any:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": f"the {name}", "parameters": parameters}}


WEATHER = tool("weather", days={"type": "integer", "minimum": 1, "maximum": 9}, unit={"enum": ["C", "F"]})
LEAVE = tool("leave", kind={"enum": ["parental", "sick"]})


def connect(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True)


def check_weather(arguments: str) -> None:
    weather = json.loads(arguments)
    assert weather.keys() == {"days", "unit"}
    assert 1 <= weather["days"] <= 9
    assert weather["unit"] in ("C", "F")


@GROUNDED_AND_PLAIN
def test_a_required_call_follows_the_tools_schema(server: Server, model: str) -> None:
    with connect(server) as client:
        choice = client.chat.completions.create(
            model=model, messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False
        ).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    assert re.fullmatch(r"call_\w+", call.id)
    check_weather(call.function.arguments)


@GROUNDED_AND_PLAIN
def test_a_required_call_streams_name_first_then_arguments(server: Server, model: str) -> None:
    with connect(server) as client:
        chunks = list(
            client.chat.completions.create(
                model=model,
                messages=ASKED,
                tools=[WEATHER, LEAVE],
                tool_choice={"type": "function", "function": {"name": "leave"}},
                stream=True,
            )
        )
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    first, *rest = deltas
    assert (first.index, first.type, first.function and first.function.name) == (0, "function", "leave")
    assert first.id
    assert rest
    assert all(piece.id is None and piece.function and piece.function.name is None for piece in rest)
    arguments = "".join(piece.function.arguments or "" for piece in deltas if piece.function)
    assert json.loads(arguments)["kind"] in ("parental", "sick")
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["tool_calls"]
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_the_clients_stream_helper_assembles_parallel_calls(server: Server) -> None:
    with (
        connect(server) as client,
        client.chat.completions.stream(
            model="reader-v1",
            messages=ASKED,
            tools=[WEATHER, LEAVE],
            tool_choice="required",
            parallel_tool_calls=True,
            seed=4,
            temperature=1.5,
        ) as stream,
    ):
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or []
    assert 1 <= len(calls) <= 16
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        if call.function.name == "weather":
            check_weather(call.function.arguments)
        else:
            assert json.loads(call.function.arguments)["kind"] in ("parental", "sick")


def test_allowed_tools_limit_what_may_be_called(server: Server) -> None:
    choice: Any = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "leave"}}]},
    }
    with connect(server) as client:
        for seed in range(3):
            completion = client.chat.completions.create(
                model="reader-v1",
                messages=ASKED,
                tools=[WEATHER, LEAVE],
                tool_choice=choice,
                seed=seed,
                temperature=1.5,
            )
            calls = completion.choices[0].message.tool_calls or []
            assert {call.function.name for call in calls} == {"leave"}


@GROUNDED_AND_PLAIN
def test_a_tools_result_is_answered(server: Server, model: str) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"days": 1, "unit": "C"}'},
    }
    messages: list[Any] = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
    ]
    with connect(server) as client:
        completion = client.chat.completions.create(
            model=model, messages=messages, tools=[WEATHER], max_tokens=8, tool_choice="none"
        )
    message = completion.choices[0].message
    assert message.content and message.tool_calls is None
    assert completion.usage and completion.usage.completion_tokens <= 8
    for cited in message.annotations or ():  # nothing is searched for, but what the question brought is remembered
        assert cited.type == "url_citation" and cited.url_citation.title.startswith("handbook/leave.md")


def test_legacy_functions_work_as_tools(server: Server) -> None:
    with connect(server) as client:
        completion = client.chat.completions.create(
            model="reader-v1",
            messages=[
                *ASKED,
                {"role": "assistant", "content": None, "function_call": {"name": "leave", "arguments": "{}"}},
                {"role": "function", "name": "leave", "content": "none"},
                {"role": "user", "content": "and the weather?"},
            ],
            functions=[WEATHER["function"]],
            function_call={"name": "weather"},
        )
        chunks = list(
            client.chat.completions.create(
                model="reader-v1",
                messages=ASKED,
                functions=[WEATHER["function"]],
                function_call={"name": "weather"},
                stream=True,
            )
        )
    choice = completion.choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.tool_calls is None
    assert choice.message.function_call is not None
    check_weather(choice.message.function_call.arguments)
    pieces = [chunk.choices[0].delta.function_call for chunk in chunks if chunk.choices[0].delta.function_call]
    assert [piece.name for piece in pieces if piece] == ["weather", *[None] * (len(pieces) - 1)]
    check_weather("".join(piece.arguments or "" for piece in pieces if piece))


def test_a_call_cut_short_is_left_out_and_the_end_says_so(server: Server) -> None:
    with connect(server) as client:
        choice = client.chat.completions.create(
            model="reader-v1", messages=ASKED, tools=[WEATHER], tool_choice="required", max_tokens=6
        ).choices[0]
    assert choice.finish_reason == "length"
    assert not choice.message.tool_calls
    assert not choice.message.content


@GROUNDED_AND_PLAIN
def test_three_choices_stream_interleaved(server: Server, model: str) -> None:
    texts: dict[int, str] = defaultdict(str)
    roles: list[int] = []
    ends: dict[int, str] = {}
    usage = None
    with connect(server) as client:
        for chunk in client.chat.completions.create(
            model=model,
            messages=ASKED,
            n=3,
            seed=1,
            temperature=1,
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                roles += [choice.index] if choice.delta.role else []
                if choice.finish_reason:
                    assert choice.index not in ends
                    ends[choice.index] = choice.finish_reason
    assert roles == [0, 1, 2]
    assert sorted(ends) == [0, 1, 2]
    assert all(texts.values())
    assert usage is not None
    with connect(server) as client:
        whole = client.chat.completions.create(model=model, messages=ASKED, n=3, seed=1, temperature=1, max_tokens=24)
        one = client.chat.completions.create(model=model, messages=ASKED, seed=3, temperature=1, max_tokens=24)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert whole.usage and one.usage
    assert whole.usage.prompt_tokens == one.usage.prompt_tokens == usage.prompt_tokens
    assert whole.usage.completion_tokens > one.usage.completion_tokens


def logprobs_of(chunks: list[ChatCompletionChunk]) -> list[Any]:
    return [
        token
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content or []
    ]


@GROUNDED_AND_PLAIN
def test_log_probabilities_belong_to_the_tokens_of_the_text(server: Server, model: str) -> None:
    request: Any = {
        "model": model,
        "messages": ASKED,
        "logprobs": True,
        "top_logprobs": 3,
        "max_tokens": 40,
        "temperature": 0,
    }
    with connect(server) as client:
        choice = client.chat.completions.create(**request).choices[0]
        chunks = list(client.chat.completions.create(**request, stream=True))
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(token.token for token in tokens) == choice.message.content
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == choice.message.content
    for token in tokens:
        assert token.logprob <= 0
        assert math.isfinite(token.logprob)
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-6
    assert [token.token for token in logprobs_of(chunks)] == [token.token for token in tokens]
    for chunk in chunks:
        if chunk.choices[0].delta.content:
            assert chunk.choices[0].logprobs


def test_a_stop_strings_tokens_are_not_returned(server: Server) -> None:
    with connect(server) as client:
        choice = client.chat.completions.create(
            model="cloister", messages=ASKED, logprobs=True, stop=["weeks"] + ["never"] * 20
        ).choices[0]
    assert choice.message.content == "Parental leave is sixteen "
    assert choice.logprobs and choice.logprobs.content
    assert "".join(token.token for token in choice.logprobs.content).startswith("Parental leave is sixteen")


@pytest.mark.parametrize("stream", [True, False])
def test_a_schema_and_tools_and_grounding_go_together(server: Server, stream: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"weeks": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["weeks"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "leave", "schema": schema, "strict": True}}
    with connect(server) as client:
        if stream:
            with client.chat.completions.stream(
                model="cloister", messages=ASKED, response_format=form, tools=[LEAVE], tool_choice="auto"
            ) as events:
                choice: Any = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(
                model="cloister", messages=ASKED, response_format=form, tools=[LEAVE], tool_choice="auto"
            ).choices[0]
    if choice.message.tool_calls:
        assert choice.finish_reason == "tool_calls"
        assert json.loads(choice.message.tool_calls[0].function.arguments)["kind"] in ("parental", "sick")
    else:
        assert json.loads(choice.message.content).keys() == {"weeks"}


def test_grounded_choices_each_have_their_citations(server: Server) -> None:
    with connect(server) as client:
        completion = client.chat.completions.create(model="cloister", messages=ASKED, n=2)
    for choice in completion.choices:
        assert choice.message.content == f"{SENTENCE} [1]"
        (annotation,) = choice.message.annotations or []
        assert annotation.url_citation.title.startswith("handbook/leave.md")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{}]}, "tools[0].function"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "perhaps"}, "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice.function.name",
        ),
        ({"tools": [WEATHER], "functions": [WEATHER["function"]]}, "functions"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"stop": ["x"] * 65}, "stop"),
    ],
)
def test_unsupported_fields_are_refused_with_their_name(server: Server, fields: dict[str, Any], param: str) -> None:
    response = server.ask(PARENTAL, **fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param, error


def test_an_unenforceable_strict_tool_is_refused_and_a_loose_one_is_called(server: Server) -> None:
    loose = tool("odd", n={"type": "integer", "not": {"const": 3}})
    strict = {"type": "function", "function": {**loose["function"], "strict": True}}
    error = server.ask(PARENTAL, tools=[WEATHER, strict], tool_choice="required").json()["error"]
    assert error["param"] == "tools[1].function.parameters.properties.n.not"
    choice = server.ask(
        PARENTAL, model="reader-v1", tools=[loose], tool_choice="required", parallel_tool_calls=False, max_tokens=200
    ).json()["choices"][0]
    assert choice["finish_reason"] in ("tool_calls", "length")


def test_raw_bodies_have_no_empty_fields(server: Server) -> None:
    plain = server.ask(PARENTAL).json()["choices"][0]
    assert plain["message"].keys() == {"role", "content", "annotations", "refusal"}
    assert plain["logprobs"] is None
    call = server.ask(PARENTAL, tools=[LEAVE], tool_choice="required").json()["choices"][0]
    assert call["message"].keys() == {"role", "content", "tool_calls", "refusal"}
    assert call["message"]["tool_calls"][0].keys() == {"id", "type", "function"}
