"""LangChain's ChatOpenAI, unmodified but for its address."""

from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from real_server import Server

langchain_openai = pytest.importorskip("langchain_openai")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

QUESTION = "How long is parental leave?"


class Leave(BaseModel):
    """How long somebody may stay away."""

    weeks: int


def chat(server: Server, **fields: Any) -> Any:
    return langchain_openai.ChatOpenAI(
        model="cloister", base_url=f"{server.url}/v1", api_key=SecretStr("none"), max_retries=0, **fields
    )


def test_a_question_is_answered_whole_and_streamed(server: Server) -> None:
    model = chat(server)
    assert "sixteen weeks" in model.invoke(QUESTION).content
    chunks = list(model.stream(QUESTION, stream_usage=True))
    assert "sixteen weeks" in "".join(chunk.content for chunk in chunks)
    assert any(chunk.usage_metadata for chunk in chunks)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_is_parsed_into_a_model(server: Server, method: str) -> None:
    assert isinstance(chat(server, max_tokens=60).with_structured_output(Leave, method=method).invoke(QUESTION), Leave)


def test_a_tool_is_called(server: Server) -> None:
    reply = chat(server).bind_tools([Leave], tool_choice="Leave").invoke(QUESTION)
    assert [call["name"] for call in reply.tool_calls] == ["Leave"]


def test_a_context_overflow_is_recognised(server: Server) -> None:
    errors = pytest.importorskip("langchain_core.exceptions")
    with pytest.raises(errors.ContextOverflowError):
        chat(server).invoke("word " * 5000)
