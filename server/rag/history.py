"""What the user's turns of a conversation were grounded on, and by what name a conversation is known again.

Chat clients send the whole conversation each time and nothing that names it. A turn is known by a hash over all
messages up to it, or up to its reply, so that an edited or branched conversation is known as far as it is the same.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from models.llm.chat.messages import ChatMessage
from server.rag.prompts import Source

_KEY_BYTES = 16
_MARKER = re.compile(r"\s?\[\d{1,4}\]")
_CITED = re.compile(r"\[(\d{1,3})\]")  # years and the like are no sources
_SPACE = re.compile(r"\s+")


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """`sources` are those the turn brought, in the order of its prompt. `hidden`: numbers, of earlier turns' sources,
    that had gone from the prompt to make room. `found_nothing`: nothing was relevant, old or new."""

    sources: tuple[Source, ...] = ()
    hidden: frozenset[int] = frozenset()
    found_nothing: bool = False


def turn_hashes(messages: Sequence[ChatMessage], scope: str) -> list[bytes]:
    """For each message, the name of the conversation up to it. `scope`: what may be searched; in another scope nothing
    is known of it, so that nobody is shown a passage they could not have found.

    System messages count for nothing: clients write the time into them. Nor do markers and space, which differ between
    what a model says and what comes back of it.
    """
    key, keys = hashlib.blake2b(scope.encode(), digest_size=_KEY_BYTES).digest(), []
    for message in messages:
        if message.role != "system":
            key = hash_after_reply(key, message)
        keys.append(key)
    return keys


def hash_after_reply(key: bytes, message: ChatMessage) -> bytes:
    """The name of the conversation that goes on with this message."""
    content = message.text if message.role != "assistant" else _MARKER.sub("", message.text)
    calls = [(call.name, call.arguments) for call in message.tool_calls]
    told = msgspec.json.encode((message.role, _SPACE.sub(" ", content).strip(), calls))
    return hashlib.blake2b(key + told, digest_size=_KEY_BYTES).digest()


def conversation_hashes(
    messages: Sequence[ChatMessage], keys: Sequence[bytes]
) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """For each turn of the user's but one that is still to be answered: its index, and the names it may be known by.

    With its reply comes first: the same question may have been answered from other passages before.
    """
    for at, message in enumerate(messages[:-1]):
        if message.role == "user":
            has_reply = messages[at + 1].role == "assistant"
            yield at, (keys[at + 1], keys[at]) if has_reply else (keys[at],)


def recalled(messages: Sequence[ChatMessage], keys: Sequence[bytes], known: Mapping[bytes, Turn]) -> dict[int, Turn]:
    """The turns that are known, by the index of the user's message."""
    found = (
        (at, next((known[name] for name in names if name in known), None))
        for at, names in conversation_hashes(messages, keys)
    )
    return {at: turn for at, turn in found if turn is not None}


def last_number(messages: Sequence[ChatMessage], turns: Mapping[int, Turn]) -> int:
    """Of the sources that the conversation has had. What is not known any more may still be cited in it."""
    known = (source.number for turn in turns.values() for source in turn.sources)
    cited = (int(n) for m in messages if m.role == "assistant" for n in _CITED.findall(m.text))
    return max((*known, *cited), default=0)
