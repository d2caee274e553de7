"""Ollama's own Python client, unmodified but for its address."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from real_server import Server

ollama = pytest.importorskip("ollama")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ASKED: Any = [{"role": "user", "content": "How long is parental leave?"}]
SENTENCE = "Parental leave is sixteen weeks with full pay."
LEAVE = {
    "type": "object",
    "properties": {"kind": {"enum": ["parental", "sick"]}, "weeks": {"enum": [8, 16]}},
    "required": ["kind", "weeks"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    client = ollama.Client(server.url)
    yield client
    client._client.close()


def test_models_are_found_by_the_names_that_are_listed(client: Any) -> None:
    names = [model.model for model in client.list().models]
    assert {"cloister:latest", "reader-v1:latest", "all-MiniLM-L6-v2:latest"} <= set(names)
    for name in names:
        description = client.show(name)
        assert description.capabilities
        assert description.modelinfo[f"{description.modelinfo['general.architecture']}.context_length"] > 0
    assert [model.model for model in client.ps().models] == ["reader-v1:latest"]


def test_a_grounded_answer_is_the_same_whole_and_streamed(client: Any) -> None:
    whole = client.chat("cloister", ASKED)
    assert whole.message.content.startswith(SENTENCE)
    assert "\n\nSources:\n[1] [" in whole.message.content
    assert whole.eval_count > 0
    *frames, last = client.chat("cloister:latest", ASKED, stream=True)
    assert "".join(frame.message.content for frame in frames) == whole.message.content
    assert (last.done, last.done_reason, last.eval_count) == (True, "stop", whole.eval_count)


def test_an_answer_follows_the_format(client: Any) -> None:
    reply = client.chat("reader-v1", ASKED, format=LEAVE)
    assert json.loads(reply.message.content)["weeks"] in (8, 16)


def test_a_tool_is_called_and_its_result_answered(client: Any) -> None:
    def leave(kind: str) -> str:
        """Looks up leave.

        Args:
            kind: the kind of leave
        """
        return f"{kind}: 16 weeks"

    call = {"function": {"name": "leave", "arguments": {"kind": "parental"}}}
    messages = [
        *ASKED,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "leave", "content": leave("parental")},
    ]
    reply = client.chat("reader-v1", messages, tools=[leave], options={"num_predict": 4})
    assert reply.done_reason in ("stop", "length")


def test_generate_returns_log_probabilities(client: Any) -> None:
    reply = client.generate("reader-v1", "Hello", options={"num_predict": 3}, logprobs=True, top_logprobs=2)
    assert "".join(each.token for each in reply.logprobs).startswith(reply.response[:1])
    assert all(len(each.top_logprobs) == 2 and each.logprob <= 0 for each in reply.logprobs)
    assert reply.done_reason == "length"


def test_a_request_without_prompt_loads_the_model(client: Any) -> None:
    assert client.generate("reader-v1", keep_alive="1m").done_reason == "load"


def test_texts_become_unit_vectors(client: Any) -> None:
    reply = client.embed("all-MiniLM-L6-v2:latest", ["one", "two"])
    assert [len(vector) for vector in reply.embeddings] == [384, 384]
    assert client.embeddings("all-MiniLM-L6-v2", "one").embedding == pytest.approx(reply.embeddings[0], abs=1e-5)


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda client: client.chat("nope", ASKED), 404),
        (lambda client: client.pull("nope"), 403),
        (lambda client: client.delete("reader-v1"), 403),
        (lambda client: list(client.chat("nope", ASKED, stream=True)), 404),
    ],
)
def test_errors_have_ollamas_class(client: Any, ask: Any, status: int) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        ask(client)
    assert caught.value.status_code == status
    assert caught.value.error


def test_a_raw_prompt_is_continued(client: Any) -> None:
    reply = client.generate("reader-v1", "Parental leave is", raw=True, options={"num_predict": 4, "temperature": 0})
    rendered = client.generate("reader-v1", "Parental leave is", options={"num_predict": 4, "temperature": 0})
    assert reply.prompt_eval_count < rendered.prompt_eval_count
    assert (reply.eval_count, reply.done_reason) == (4, "length")


def test_a_model_that_cannot_fill_gaps_says_so(client: Any) -> None:
    assert "insert" not in client.show("reader-v1").capabilities
    with pytest.raises(ollama.ResponseError, match="does not support insert"):
        client.generate("reader-v1", "def f(", suffix="return x")
