"""Conversations with a real server: prefixes stay cached and source numbers stay, also after a restart."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from real_server import Server, serving

from server.rag.prompts import NO_ANSWER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TOPICS = ["parental leave", "travel by train", "the canteen's soup", "sick notes", "the laptop policy"]


def write_rules(docs: Path) -> Path:
    docs.mkdir()
    for number, topic in enumerate(TOPICS):
        text = f"# Rules about {topic}\n\nThe rule about {topic} is that it takes {number + 3} days.\n"
        (docs / f"rule-{number}.md").write_text(text)
    return docs


class Talk:
    """A conversation over raw HTTP; the client keeps its messages."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.messages: list[dict[str, str]] = []

    def ask(self, question: str) -> dict[str, Any]:
        self.messages.append({"role": "user", "content": question})
        with self.server.client() as http:
            response = http.post("/v1/chat/completions", json={"messages": self.messages, "max_tokens": 60})
        assert response.status_code == 200, response.text
        reply: dict[str, Any] = response.json()
        self.messages.append({"role": "assistant", "content": reply["choices"][0]["message"]["content"]})
        return reply


def num_cached_tokens(reply: dict[str, Any]) -> int:
    tokens: int = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def test_ten_turns_are_each_computed_once_and_keep_their_source_numbers(tmp_path: Path) -> None:
    with serving(tmp_path, write_rules(tmp_path / "docs")) as server:
        talk = Talk(server)
        num_tokens = 0  # tokens of the last prompt
        for turn in range(10):
            reply = talk.ask(f"What is the rule about {TOPICS[turn % len(TOPICS)]}?")
            assert num_cached_tokens(reply) >= num_tokens - 1, f"turn {turn + 1} read again what was in memory"
            num_tokens = reply["usage"]["prompt_tokens"]
            number = turn % len(TOPICS) + 3
            assert f"{number} days." in talk.messages[-1]["content"]
        annotated = [talk.messages[i]["content"] for i in (1, 11)]
        assert annotated[0] == annotated[1], "the same passage under the same number, five turns later"
        server.stop()
    with serving(tmp_path, tmp_path / "docs") as server:
        talk.server = server
        reply = talk.ask("And what is the rule about sick notes?")
        assert reply["usage"]["prompt_tokens"] > num_tokens
        assert "[" in talk.messages[-1]["content"]
        assert num_cached_tokens(reply) >= num_tokens - 100, "also after a restart"


KIND = {"type": "object", "properties": {"kind": {"enum": ["paid", "unpaid"]}}, "required": ["kind"]}
SCHEMA = {**KIND, "additionalProperties": False}
LEAVE: Any = {"type": "function", "function": {"name": "leave", "description": "kinds of leave", "parameters": SCHEMA}}
FORM: Any = {"type": "json_schema", "json_schema": {"name": "kind", "schema": SCHEMA, "strict": True}}
PARENTAL = "How long is parental leave?"


class OpenAITalk:
    """A conversation through OpenAI's client, which validates the replies."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client
        self.messages: list[Any] = []

    def ask(self, message: str | dict[str, Any], **fields: Any) -> tuple[Any, dict[str, Any]]:
        """Ask, and return the choice and the report on its sources."""
        self.messages.append({"role": "user", "content": message} if isinstance(message, str) else message)
        request_fields: Any = {
            "model": "cloister",
            "messages": self.messages,
            "max_tokens": 60,
            "temperature": 0,
            **fields,
        }
        rag: Any = {}
        if request_fields.pop("stream", False):
            with self._client.chat.completions.stream(**request_fields) as stream:
                for event in stream:
                    rag = (event.type == "chunk" and event.chunk.to_dict().get("rag")) or rag
            completion: Any = stream.get_final_completion()
        else:
            completion = self._client.chat.completions.create(**request_fields)
            rag = completion.to_dict().get("rag", {})
        choice = completion.choices[0]
        self.messages.append({"role": "assistant", "content": choice.message.content})
        if calls := choice.message.tool_calls:
            self.messages[-1]["tool_calls"] = [call.to_dict(exclude_unset=True) for call in calls]
        return choice, rag


def test_ten_turns_with_tools_and_formats_keep_their_sources(server: Server) -> None:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        talk = OpenAITalk(client)
        first, _ = talk.ask(PARENTAL, stream=True)
        choice, rag = talk.ask("Where is the spare key?")
        assert "blue cabinet" in choice.message.content
        (number,) = {a.url_citation.model_dump()["number"] for a in choice.message.annotations}
        (key,) = [p for p in rag["passages"] if p["number"] == number]
        assert (key["path"], key["is_new"]) == ("office/keys.txt", True)

        choice, _ = talk.ask("Which kind of leave is parental leave?", tools=[LEAVE], tool_choice="required",
                             parallel_tool_calls=False, stream=True)  # fmt: skip
        assert choice.finish_reason == "tool_calls"
        result = {"role": "tool", "tool_call_id": choice.message.tool_calls[0].id, "content": "It is paid."}
        choice, rag = talk.ask(result, tools=[LEAVE], max_tokens=20)
        assert choice.finish_reason in ("stop", "length", "tool_calls")
        assert rag["queries"] == []
        assert rag["passages"]
        assert not any(p["is_new"] for p in rag["passages"])
        if choice.message.tool_calls:  # whatever it says, the conversation goes on without
            talk.messages[-1] = {"role": "assistant", "content": "It is paid."}

        choice, rag = talk.ask("Is parental leave paid?", response_format=FORM)
        assert json.loads(choice.message.content)["kind"] in ("paid", "unpaid")
        assert rag["queries"][0] == "Is parental leave paid?"
        title, rag = talk.ask("Generate a concise 3-7 word title for this conversation.", max_tokens=10)
        assert rag == {}
        assert not title.message.annotations
        del talk.messages[-2:]
        for question in ("When do flights need approval?", "By when do I send a sick note?", "And trains?"):
            _, rag = talk.ask(question, stream=True)
            assert {p["number"] for p in rag["passages"]} >= {number}, "what was told before stays"
        choice, rag = talk.ask("What is the capital of Peru?", stream=True)
        assert (choice.message.content, rag["passages"]) == (NO_ANSWER, []), "nothing has to do with it"
        assert not choice.message.annotations

        again, rag = talk.ask(PARENTAL, extra_headers={"X-Cloister-Citations": "inline"})
        answer, _, source_list = again.message.content.partition("\n\nSources:\n")
        assert answer == first.message.content, "the same passage under the same number"
        assert source_list.startswith("[1] [handbook/leave.md")
        assert again.message.annotations is None
        assert next(p for p in rag["passages"] if p["number"] == number)["chunk_id"] == key["chunk_id"]
