"""The principal of a request: its name and role, and the collections that it may see."""

import time
from collections.abc import Callable
from typing import NamedTuple

from server.access.keys import Key, Role


class Principal(NamedTuple):
    """The sender of a request. `collections` None: all. `id` is the key's id, which no other key ever has."""

    name: str
    role: Role
    collections: frozenset[str] | None = None
    id: str = ""

    @property
    def owner(self) -> str:
        """The owner id of the principal's responses and batches; "" if there are no keys."""
        return self.id or self.name

    def may_see(self, collection: str) -> bool:
        return self.collections is None or collection in self.collections

    def owns(self, owner: str) -> bool:
        """Return whether the principal may see responses and batches that are marked with this owner."""
        return self.role is Role.ADMIN or owner == self.owner


UNRESTRICTED = Principal("", Role.ADMIN)  # of every request while there are no keys

ANONYMOUS = Principal("", Role.READ, frozenset())  # of requests to public routes without a key


def principal_of(key: Key) -> Principal:
    return Principal(key.name, key.rank, None if key.collections is None else frozenset(key.collections), key.id)


class Rates:
    """The rate limits of keys: a token bucket for each key, which holds the requests of a minute."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: dict[str, tuple[float, float]] = {}  # by key id: requests left, and the time of that count

    def wait_s(self, key: Key) -> float:
        """Take one request from the bucket and return 0, or return the seconds until there is one."""
        if key.rate is None:
            return 0.0
        now = self._now()
        left, then = self._buckets.get(key.id, (float(key.rate), now))
        left = min(left + (now - then) * key.rate / 60, key.rate)
        if left < 1:
            self._buckets[key.id] = left, now
            return (1 - left) * 60 / key.rate
        self._buckets[key.id] = left - 1, now
        return 0.0
