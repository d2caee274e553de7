"""OpenAI's own Python client, with strict validation of replies: its whole interface for chat and models.

tests/e2e/test_chat.py tests the content of the answers.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest
from openai import AsyncOpenAI, OpenAI
from real_server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ASKED: Any = [{"role": "user", "content": "How long is parental leave?"}]
SENTENCE = "Parental leave is sixteen weeks with full pay."


class Leave(pydantic.BaseModel):
    """A tool, or the schema of an answer."""

    kind: Literal["parental", "sick"]
    weeks: Literal[8, 16]


LEAVE = openai.pydantic_function_tool(Leave, name="leave")


def settings(server: Server) -> dict[str, Any]:
    return {"base_url": f"{server.url}/v1", "api_key": "none", "_strict_response_validation": True}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(**settings(server), max_retries=0) as client:
        yield client


def test_models_are_listed_page_by_page_and_one_by_one(client: OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids[:2] == ["cloister", "cloister/handbook"]
    for id in ids:
        model = client.models.retrieve(id)
        assert (model.id, model.object, model.created > 1_700_000_000) == (id, "model", True)


def test_a_whole_answer_has_its_request_id_and_headers(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="cloister", messages=ASKED)
    answer = raw.parse()
    assert answer._request_id == raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert SENTENCE in (answer.choices[0].message.content or "")


def test_an_answer_is_parsed_into_a_model(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model="cloister", messages=ASKED, response_format=Leave, max_tokens=60)
    assert isinstance(answer.choices[0].message.parsed, Leave)


@pytest.mark.parametrize("model", ["cloister", "reader-v1"])
def test_the_stream_helper_parses_the_same(client: OpenAI, model: str) -> None:
    with client.chat.completions.stream(
        model=model, messages=ASKED, response_format=Leave, max_tokens=60, stream_options={"include_usage": True}
    ) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Leave)
    assert {"chunk", "content.delta", "content.done"} <= set(events)
    assert final.usage is not None
    assert final.usage.total_tokens == final.usage.prompt_tokens + final.usage.completion_tokens


def test_a_tool_is_run_until_there_is_an_answer(client: OpenAI) -> None:
    messages: list[Any] = list(ASKED)
    first = client.chat.completions.parse(
        model="reader-v1", messages=messages, tools=[LEAVE], tool_choice="required", parallel_tool_calls=False
    ).choices[0]
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Leave)
    messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"weeks": 16})}]
    answered = client.chat.completions.create(model="reader-v1", messages=messages, tools=[LEAVE], max_tokens=20)
    assert answered.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_a_streamed_call_is_assembled(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="cloister", messages=ASKED, tools=[LEAVE], tool_choice="required", parallel_tool_calls=False
    ) as stream:
        arguments = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        message = stream.get_final_completion().choices[0].message
    assert [event.name for event in arguments] == ["leave"]
    assert [call.function.name for call in message.tool_calls or []] == ["leave"]


def test_several_answers_have_log_probabilities(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="reader-v1", messages=ASKED, n=3, logprobs=True, top_logprobs=2, max_tokens=4, temperature=1, seed=5
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content or [])


def test_the_asynchronous_client_asks_many_questions_at_once(server: Server) -> None:
    async def ask() -> list[str]:
        async with AsyncOpenAI(**settings(server)) as client:

            async def join_content() -> str:
                stream = await client.chat.completions.create(model="cloister", messages=ASKED, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(join_content() for _ in range(12)))

    assert all(SENTENCE in text for text in asyncio.run(ask()))


def test_errors_are_of_the_class_the_client_has_for_them(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=ASKED)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert missing.value.request_id and missing.value.request_id.startswith("req_")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="cloister", messages=ASKED, temperature=9)
    assert (wrong.value.code, wrong.value.param) == ("invalid_value", "temperature")
    with pytest.raises(openai.NotFoundError) as unsupported:
        client.images.generate(prompt="x")
    assert unsupported.value.code == "unsupported_endpoint"


def test_a_context_overflow_has_the_words_that_clients_detect(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="reader-v1", messages=[{"role": "user", "content": "word " * 5000}])
    assert error.value.code == "context_length_exceeded"
    for phrase in ("This model's maximum context length is", "context_length_exceeded"):
        assert phrase in str(error.value)


def test_a_cut_answer_is_an_error_of_the_parser(client: OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="cloister", messages=ASKED, response_format=Leave, max_tokens=2)


def test_a_stream_may_be_closed_early(client: OpenAI) -> None:
    for _ in range(10):
        with client.chat.completions.create(model="cloister", messages=ASKED, stream=True) as stream:
            next(iter(stream))
    assert client.models.retrieve("cloister").id == "cloister"
