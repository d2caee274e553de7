"""Turns of a conversation with their sources, and the hashes by which a conversation is recognized.

Chat clients send the whole conversation each time and nothing that identifies it. A turn is recognized by a hash over
all messages up to it, or up to its reply, so that an edited or branched conversation is recognized as far as it is the
same.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from models.llm.chat.messages import ChatMessage
from server.rag.citations import without_markers
from server.rag.prompts import Source

_HASH_BYTES = 16
_CITED_NUMBER = re.compile(r"\[(\d{1,3})\]")  # longer numbers are years and the like
_SPACE = re.compile(r"\s+")


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One of the user's turns, as it was grounded.

    `sources` are those that the turn brought, in the order of its prompt. `hidden` are the numbers of earlier turns'
    sources that were left out of the prompt to make room. `found_nothing`: nothing was relevant, old or new.
    """

    sources: tuple[Source, ...] = ()
    hidden: frozenset[int] = frozenset()
    found_nothing: bool = False


class TurnRecord(NamedTuple):
    """A turn to be remembered once it has a reply. `key` is the hash of the conversation up to its question."""

    key: bytes
    turn: Turn


def turn_hashes(messages: Sequence[ChatMessage], scope: str) -> list[bytes]:
    """Return for each message the hash of the conversation up to it.

    `scope` says what may be searched: in another scope the conversation is another, so that nobody is shown a passage
    that they could not have found. System messages do not count, since clients write the time into them; neither do
    markers and white space, which differ between what a model generates and what a client sends back.
    """
    key, keys = hashlib.blake2b(scope.encode(), digest_size=_HASH_BYTES).digest(), []
    for message in messages:
        if message.role != "system":
            key = hash_after_reply(key, message)
        keys.append(key)
    return keys


def hash_after_reply(key: bytes, message: ChatMessage) -> bytes:
    """Return the hash of the conversation `key` continued by this message."""
    content = message.text if message.role != "assistant" else without_markers(message.text)
    calls = [(call.name, call.arguments) for call in message.tool_calls]
    encoded = msgspec.json.encode((message.role, _SPACE.sub(" ", content).strip(), calls))
    return hashlib.blake2b(key + encoded, digest_size=_HASH_BYTES).digest()


def conversation_hashes(
    messages: Sequence[ChatMessage], keys: Sequence[bytes]
) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield for each user's turn that has been answered its index, and the hashes that it may be remembered by.

    The hash with its reply comes first: the same question may have been answered from other passages before.
    """
    for at, message in enumerate(messages[:-1]):
        if message.role == "user":
            has_reply = messages[at + 1].role == "assistant"
            yield at, (keys[at + 1], keys[at]) if has_reply else (keys[at],)


def known_turns(messages: Sequence[ChatMessage], keys: Sequence[bytes], known: Mapping[bytes, Turn]) -> dict[int, Turn]:
    """Return the turns that are remembered, by the index of the user's message."""
    turns = (
        (at, next((known[key] for key in turn_keys if key in known), None))
        for at, turn_keys in conversation_hashes(messages, keys)
    )
    return {at: turn for at, turn in turns if turn is not None}


def last_number(messages: Sequence[ChatMessage], turns: Mapping[int, Turn]) -> int:
    """Return the highest number of a source that the conversation ever had, 0 for none.

    A turn that is forgotten may still have its sources cited in the replies.
    """
    known = (source.number for turn in turns.values() for source in turn.sources)
    cited_numbers = (int(n) for m in messages if m.role == "assistant" for n in _CITED_NUMBER.findall(m.text))
    return max((*known, *cited_numbers), default=0)
