"""Conversations are recognized, and keep their sources: in random conversations, and by table."""

import asyncio
from pathlib import Path

import pytest

from models.llm.chat.messages import ChatMessage, ToolCall
from server.rag.history import Turn, conversation_hashes, known_turns, turn_hashes
from server.rag.memory import TurnMemory
from server.storage.sqlite.turns import SqliteTurnStore
from tests.server.random_conversations import run

QUESTION, REPLY, NEXT_QUESTION = (
    ChatMessage.of_text("user", "How long?"),
    ChatMessage.of_text("assistant", "Ten days. [1]"),
    ChatMessage.of_text("user", "So?"),
)


def test_earlier_turns_stay_in_the_prompt_token_by_token(tmp_path: Path) -> None:
    """scripts/prove/conversations.py runs ten thousand."""
    counts = run(tmp_path, seed=1, num_conversations=100)
    assert counts["turns"] > 400
    assert (
        min(counts[name] for name in ("continued", "dropped", "earlier passages gave way", "branched", "too long")) > 0
    )


@pytest.mark.parametrize(
    ("messages", "is_known"),
    [
        ([QUESTION, REPLY, NEXT_QUESTION], True),
        ([ChatMessage.of_text("system", "It is noon."), QUESTION, REPLY, NEXT_QUESTION], True),
        ([QUESTION, ChatMessage.of_text("assistant", " Ten days."), NEXT_QUESTION], True),
        ([QUESTION, ChatMessage.of_text("assistant", "Twelve days. [1]"), NEXT_QUESTION], False),
        ([ChatMessage.of_text("user", "How long, then?"), REPLY, NEXT_QUESTION], False),
        ([NEXT_QUESTION, REPLY, QUESTION, REPLY, NEXT_QUESTION], False),
        ([QUESTION, ChatMessage.of_text("assistant", "Ten days.", (ToolCall("1", "f", "{}"),)), NEXT_QUESTION], False),
    ],
)
def test_a_conversation_is_recognized_as_far_as_it_is_the_same(messages: list[ChatMessage], is_known: bool) -> None:
    known = {turn_hashes([QUESTION, REPLY], "*")[1]: Turn(found_nothing=True)}
    turns = known_turns(messages, turn_hashes(messages, "*"), known)
    assert turns == ({messages.index(QUESTION): Turn(found_nothing=True)} if is_known else {})


def test_hashes_of_a_conversation_are_those_that_turn_files_on_disk_hold() -> None:
    messages = [
        ChatMessage.of_text("system", "x"),
        ChatMessage.of_text("user", "How long?"),
        ChatMessage.of_text("assistant", "Ten  days. [1]", [ToolCall("1", "f", "{}")]),
        ChatMessage.of_text("tool", "3"),
        ChatMessage.of_text("user", ""),
    ]
    assert [turn_hash.hex() for turn_hash in turn_hashes(messages, "all")] == [
        "757dd64017070556678d5febb7649493",
        "6f5c8c6a92cab3fe79df61628af2c6be",
        "3e0137f369469c478d22bb62efd27f17",
        "e729c4bebff5a8d5fc197ca83301fc4a",
        "a905f2d9275c10f0b79376174b659e32",
    ]


def test_hashes_differ_between_scopes() -> None:
    assert set(turn_hashes([QUESTION, REPLY], "a")).isdisjoint(turn_hashes([QUESTION, REPLY], "b"))


def test_a_turn_is_recognized_by_its_reply_before_its_question() -> None:
    keys = turn_hashes([QUESTION, REPLY, NEXT_QUESTION], "*")
    assert list(conversation_hashes([QUESTION, REPLY, NEXT_QUESTION], keys)) == [(0, (keys[1], keys[0]))]
    assert list(conversation_hashes([QUESTION, NEXT_QUESTION], turn_hashes([QUESTION, NEXT_QUESTION], "*"))) == [
        (0, (keys[0],))
    ]


def test_a_turn_of_another_version_is_forgotten(tmp_path: Path) -> None:
    async def check() -> None:
        with SqliteTurnStore(tmp_path / "turns.sqlite3", 1000) as turns:
            memory = TurnMemory(turns)
            turns.remember(b"old", b"no turn")
            memory.remember(b"new", Turn(hidden=frozenset({1})))
            assert await memory.recall([b"old", b"new"]) == {b"new": Turn(hidden=frozenset({1}))}

    asyncio.run(check())
