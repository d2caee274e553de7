"""Several turns with a real server: what was read is not read again, numbers stay, a restart forgets nothing."""

from pathlib import Path
from typing import Any

import pytest
from running import Server, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TOPICS = ["parental leave", "travel by train", "the canteen's soup", "sick notes", "the laptop policy"]


def write_rules(docs: Path) -> Path:
    docs.mkdir()
    for number, topic in enumerate(TOPICS):
        text = f"# Rules about {topic}\n\nThe rule about {topic} is that it takes {number + 3} days.\n"
        (docs / f"rule-{number}.md").write_text(text)
    return docs


class Talk:
    """One conversation, as a client keeps it."""

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


def cached(reply: dict[str, Any]) -> int:
    tokens: int = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def test_ten_turns_are_each_read_once_and_numbers_stay(tmp_path: Path) -> None:
    with serving(tmp_path, write_rules(tmp_path / "docs")) as server:
        talk = Talk(server)
        known = 0  # tokens of the last prompt
        for turn in range(10):
            reply = talk.ask(f"What is the rule about {TOPICS[turn % len(TOPICS)]}?")
            assert cached(reply) >= known - 1, f"turn {turn + 1} read again what was in memory"
            known = reply["usage"]["prompt_tokens"]
            number = turn % len(TOPICS) + 3
            assert f"{number} days." in talk.messages[-1]["content"]
        annotated = [talk.messages[i]["content"] for i in (1, 11)]
        assert annotated[0] == annotated[1], "the same passage under the same number, five turns later"
        server.stop()
    with serving(tmp_path, tmp_path / "docs") as server:
        talk.server = server
        reply = talk.ask("And what is the rule about sick notes?")
        assert reply["usage"]["prompt_tokens"] > known
        assert "[" in talk.messages[-1]["content"]
        assert cached(reply) >= known - 100, "also after a restart"
