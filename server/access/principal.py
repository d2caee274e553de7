"""The principal of a request: who makes it, and what they may see."""

import time
from collections.abc import Callable
from typing import NamedTuple

from server.access.keys import Key, Role


class Principal(NamedTuple):
    """`collections` None: all. `id` is the key's, which is never used for another key."""

    name: str
    role: Role
    collections: frozenset[str] | None = None
    id: str = ""

    @property
    def owner(self) -> str:
        """The mark on the principal's own responses and batches; "" where there are no keys."""
        return self.id or self.name

    def may_see(self, collection: str) -> bool:
        return self.collections is None or collection in self.collections

    def owns(self, owner: str) -> bool:
        """Return whether the principal may see responses and batches that are marked with this owner."""
        return self.role is Role.ADMIN or owner == self.owner


UNRESTRICTED = Principal("", Role.ADMIN)  # where there are no keys, whoever reaches the server is its user

ANONYMOUS = Principal("", Role.READ, frozenset())  # of public routes, where keys exist but none is needed


def principal_of(key: Key) -> Principal:
    return Principal(key.name, key.rank, None if key.collections is None else frozenset(key.collections), key.id)


class Rates:
    """The rate limits of keys: for each a token bucket that holds the requests of a minute."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}  # by key: requests, and when they were counted

    def wait_s(self, key: Key) -> float:
        """Take one request from the bucket and return 0, or return the seconds until there is one."""
        if key.rate is None:
            return 0.0
        now = self._now()
        left, then = self._left.get(key.id, (float(key.rate), now))
        left = min(left + (now - then) * key.rate / 60, key.rate)
        if left < 1:
            self._left[key.id] = left, now
            return (1 - left) * 60 / key.rate
        self._left[key.id] = left - 1, now
        return 0.0
