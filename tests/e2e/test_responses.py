"""/v1/responses through OpenAI's own client, with real models."""

import json
import time
from collections.abc import Iterator

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.responses import FileSearchToolParam, ResponseFileSearchToolCall, ResponseOutputMessage
from real_server import Server, wait_until

from server.files.folders import folder_store_id

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

STORE = folder_store_id("handbook")
SEARCH: FileSearchToolParam = {"type": "file_search", "vector_store_ids": [STORE]}
QUESTION = "How long is parental leave?"


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as openai_client:
        yield openai_client


def test_a_file_search_is_streamed_and_cited(client: OpenAI) -> None:
    with client.responses.stream(
        model="cloister", input=QUESTION, tools=[SEARCH], include=["file_search_call.results"]
    ) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[:7] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
    ]
    assert kinds[7:9] == ["response.output_item.added", "response.content_part.added"]
    assert kinds[-5:] == [
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(kinds[9:-5]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    response = stream.get_final_response()
    call, message = response.output
    assert isinstance(call, ResponseFileSearchToolCall)
    assert call.queries == [QUESTION]
    assert call.results
    assert call.results[0].filename == "leave.md"
    assert isinstance(message, ResponseOutputMessage)
    text = message.content[0]
    assert text.type == "output_text"
    assert "sixteen weeks" in text.text
    (citation,) = text.annotations
    assert citation.type == "file_citation"
    assert citation.file_id == call.results[0].file_id
    assert text.text[citation.index :].startswith("[1]")
    assert client.files.content(citation.file_id).text.startswith("# Leave")
    assert response.usage is not None
    assert response.usage.output_tokens > 0


def test_a_conversation_continues_from_a_stored_response(client: OpenAI) -> None:
    first = client.responses.create(model="cloister", input="When do I send a sick note?")
    second = client.responses.create(
        model="cloister", input="And how long is parental leave?", previous_response_id=first.id, instructions=None
    )
    assert second.previous_response_id == first.id
    assert "sixteen" in second.output_text
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens - 30, "it is read once"
    assert client.responses.retrieve(second.id).output_text == second.output_text
    (item,) = client.responses.input_items.list(second.id)
    assert item.type == "message"
    briefly = client.responses.create(
        model="cloister", input="Why?", previous_response_id=second.id, instructions="Hm."
    )
    bare = client.responses.create(model="cloister", input="Why?", previous_response_id=briefly.id)
    assert (briefly.instructions, bare.instructions) == ("Hm.", None), "they are not carried over"
    assert client.responses.delete(first.id) is None
    with pytest.raises(NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(BadRequestError) as refusal:
        client.responses.create(model="cloister", input="Why?", previous_response_id=second.id)
    assert refusal.value.code == "previous_response_not_found"


def test_a_background_response_is_polled_and_streamed(client: OpenAI) -> None:
    response = client.responses.create(model="cloister", input=QUESTION, background=True)
    assert response.status == "queued"
    done = wait_until(
        lambda: (current := client.responses.retrieve(response.id)).status == "completed" and current,
        20,
        "the response",
    )
    assert "sixteen" in done.output_text
    whole = list(client.responses.retrieve(response.id, stream=True))
    rest = list(client.responses.retrieve(response.id, stream=True, starting_after=4))
    assert [event.sequence_number for event in whole] == list(range(len(whole)))
    assert rest == whole[5:]
    with client.responses.stream(model="cloister", input=QUESTION, background=True) as stream:
        assert [event.type for event in stream][:3] == ["response.created", "response.queued", "response.in_progress"]
    assert stream.get_final_response().output_text == done.output_text


def test_a_background_response_is_cancelled(client: OpenAI, server: Server) -> None:
    long = "Write a very long story."
    response = client.responses.create(model="reader-v1", input=long, background=True, max_output_tokens=4000)
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.cancel(response.id).status == "cancelled"
    with pytest.raises(BadRequestError):
        client.responses.cancel(client.responses.create(model="cloister", input=QUESTION).id)
    started = time.monotonic()
    assert "sixteen" in server.answer(QUESTION)
    assert time.monotonic() - started < 20


def test_an_answer_follows_a_schema(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"weeks": {"type": "integer"}},
        "required": ["weeks"],
        "additionalProperties": False,
    }
    response = client.responses.create(
        model="cloister",
        input=QUESTION,
        text={"format": {"type": "json_schema", "name": "leave", "schema": schema, "strict": True}},
        max_output_tokens=60,
    )
    assert isinstance(json.loads(response.output_text)["weeks"], int)


def test_a_function_is_called_and_its_result_answered(client: OpenAI) -> None:
    tool = {
        "type": "function",
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Bern"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    }
    with client.responses.stream(
        model="reader-v1", input="Weather in Bern?", tools=[tool], tool_choice="required", parallel_tool_calls=False
    ) as stream:
        response = stream.get_final_response()
    (call,) = [item for item in response.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "Bern"}
    answer = client.responses.create(
        model="reader-v1",
        previous_response_id=response.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}],
        tools=[tool],
        max_output_tokens=16,
    )
    assert answer.status in ("completed", "incomplete")


def test_truncation_auto_drops_the_oldest_turns(client: OpenAI) -> None:
    turns = [
        {"role": role, "content": f"{text} {'and so on ' * 400}"}
        for text in ("First", "Second", "Third")
        for role in ("user", "assistant")
    ]
    items = [*turns, {"role": "user", "content": QUESTION}]
    with pytest.raises(BadRequestError) as refusal:
        client.responses.create(model="cloister", input=items)
    assert refusal.value.code == "context_length_exceeded"
    response = client.responses.create(model="cloister", input=items, truncation="auto")
    assert "sixteen" in response.output_text


def test_tokens_are_counted_as_they_would_be_read(client: OpenAI) -> None:
    count = client.responses.input_tokens.count(model="cloister", input=QUESTION, tools=[SEARCH])
    response = client.responses.create(model="cloister", input=QUESTION, tools=[SEARCH], store=False)
    assert response.usage is not None
    assert count.input_tokens == response.usage.input_tokens
    with pytest.raises(NotFoundError):
        client.responses.retrieve(response.id)
