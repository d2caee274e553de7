"""Anthropic's own Python client, unmodified but for its address."""

from collections.abc import Iterator
from typing import Any

import pytest
from real_server import Server

anthropic = pytest.importorskip("anthropic")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ASKED: Any = [{"role": "user", "content": "How long is parental leave?"}]
SENTENCE = "Parental leave is sixteen weeks with full pay."
LEAVE = {
    "name": "leave",
    "description": "Looks up leave",
    "input_schema": {"type": "object", "properties": {"weeks": {"enum": [8, 16]}}, "required": ["weeks"]},
}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    settings = {"base_url": server.url, "api_key": "none", "max_retries": 0}
    with anthropic.Anthropic(**settings, _strict_response_validation=True) as client:
        yield client


def test_a_grounded_answer_has_its_citations(client: Any) -> None:
    reply = client.messages.create(model="cloister", max_tokens=100, messages=ASKED)
    (block,) = reply.content
    assert block.text.startswith(SENTENCE)
    assert block.citations[0].cited_text == SENTENCE
    assert (reply.stop_reason, reply.role) == ("end_turn", "assistant")
    assert reply.usage.output_tokens > 0


def test_the_stream_adds_up_to_the_message(client: Any) -> None:
    whole = client.messages.create(model="cloister", max_tokens=100, messages=ASKED)
    with client.messages.stream(model="cloister", max_tokens=100, messages=ASKED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert final.content[0].citations == whole.content[0].citations
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens
    spent = final.usage.input_tokens + final.usage.cache_read_input_tokens
    assert spent == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def test_a_tool_is_called_and_its_result_answered(client: Any) -> None:
    choice = {"type": "tool", "name": "leave"}
    with client.messages.stream(
        model="reader-v1", max_tokens=100, messages=ASKED, tools=[LEAVE], tool_choice=choice
    ) as stream:
        reply = stream.get_final_message()
    assert reply.stop_reason == "tool_use"
    use = reply.content[-1]
    assert (use.name, use.input["weeks"] in (8, 16)) == ("leave", True)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "16 weeks"}
    messages = [*ASKED, {"role": "assistant", "content": reply.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(model="reader-v1", max_tokens=3, messages=messages, tools=[LEAVE]).usage


def test_stop_reasons_name_limits_and_stop_sequences(client: Any) -> None:
    cut = client.messages.create(model="reader-v1", max_tokens=2, messages=ASKED)
    assert cut.stop_reason == "max_tokens"
    assert cut.usage.output_tokens == 2
    stopped = client.messages.create(model="cloister", max_tokens=99, messages=ASKED, stop_sequences=["weeks", "zebra"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "weeks")


def test_token_counts_are_those_of_the_prompt(client: Any) -> None:
    system = "Be short."
    count = client.messages.count_tokens(model="reader-v1", messages=ASKED, system=system)
    reply = client.messages.create(model="reader-v1", max_tokens=1, messages=ASKED, system=system)
    assert count.input_tokens == reply.usage.input_tokens + reply.usage.cache_read_input_tokens


def test_errors_have_anthropics_classes(client: Any) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude", max_tokens=1, messages=ASKED)
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\]\.content\[0\]"):
        image = {"type": "image", "source": {"type": "url", "url": "http://localhost/x.png"}}
        client.messages.create(model="cloister", max_tokens=1, messages=[{"role": "user", "content": [image]}])
