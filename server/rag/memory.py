"""Remembers what the turns of conversations were grounded on, so that a conversation reads the same each time."""

from collections.abc import Mapping, Sequence

import msgspec

from server.rag.history import Turn
from server.storage.base import TurnStore


class TurnMemory:
    """Encodes turns for a `TurnStore`, and decodes them.

    The store is a cache: the passages of a turn that is lost are searched for again, and the conversation reads a
    little differently from then on.
    """

    def __init__(self, store: TurnStore) -> None:
        self._store = store

    async def recall(self, keys: Sequence[bytes]) -> Mapping[bytes, Turn]:
        """Return the turns that are known, by their keys."""
        encoded = await self._store.recall(keys)
        turns = ((key, _decode(turn)) for key, turn in encoded.items())
        return {key: turn for key, turn in turns if turn is not None}

    def remember(self, key: bytes, turn: Turn) -> None:
        """Keep a turn, in the background."""
        self._store.remember(key, msgspec.msgpack.encode(turn))


def _decode(turn: bytes) -> Turn | None:
    """Return None for bytes that are no turn of this version."""
    try:
        return msgspec.msgpack.decode(turn, type=Turn)
    except msgspec.DecodeError:
        return None
