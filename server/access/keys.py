"""API keys and their roles. Only hashes of keys are stored; a key is shown once, when it is created."""

import hashlib
import hmac
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from server.errors import KeyStoreError

PREFIX = "clst_"


class Role(IntEnum):
    """The roles of keys. A role may do everything that a lower one may."""

    READ = 1  # ask, search, list
    WRITE = 2  # add and remove files and stores, steer the indexer
    ADMIN = 3  # everything


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """`digest` is the SHA-256 of the key in hex; a key has 256 random bits, so no slower hash is needed.

    `collections` None: all. `rate` is in requests per minute, None: no limit. Times are in Unix seconds."""

    id: str
    name: str
    digest: str
    role: str = "read"
    collections: tuple[str, ...] | None = None
    rate: int | None = None
    created_at: int
    expires_at: int | None = None

    @property
    def rank(self) -> Role:
        return Role[self.role.upper()]

    def is_valid(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at


class KeyStore(ABC):
    """The keys of a server. Implementations read and write all keys at once. Every method may raise `KeyStoreError`."""

    @abstractmethod
    def read(self) -> Sequence[Key]:
        """Return all keys. They are read anew each time, since another process may have changed them."""

    @abstractmethod
    def write(self, keys: Sequence[Key]) -> None:
        """Replace all keys atomically."""

    def find(self, text: str) -> Key | None:
        """Return the valid key with this text, None for a wrong text; both take the same time."""
        digest, now = _digest(text), time.time()
        matches = [key for key in self.read() if hmac.compare_digest(key.digest.encode(), digest.encode())]
        return next((key for key in matches if key.is_valid(now)), None)

    def create(
        self,
        name: str,
        role: Role,
        collections: Sequence[str] | None = None,
        rate: int | None = None,
        expires_at: int | None = None,
    ) -> tuple[Key, str]:
        """Add a key, and return it with its text, which is not stored. Raises `KeyStoreError` for a name in use."""
        keys = self.read()
        if any(key.name == name for key in keys):
            raise KeyStoreError(f"there is a key named {name!r}; revoke it, or choose another name")
        text = PREFIX + secrets.token_urlsafe(32)
        key = Key(
            id=f"key_{secrets.token_hex(6)}",
            name=name,
            digest=_digest(text),
            role=role.name.lower(),
            collections=None if collections is None else tuple(sorted(set(collections))),
            rate=rate,
            created_at=int(time.time()),
            expires_at=expires_at,
        )
        self.write((*keys, key))
        return key, text

    def revoke(self, name_or_id: str) -> Key:
        """Delete a key, and return it. Raises `KeyStoreError` when there is no such key."""
        keys = self.read()
        revoked = next((key for key in keys if name_or_id in (key.name, key.id)), None)
        if revoked is None:
            raise KeyStoreError(f"there is no key {name_or_id!r}; list the keys: cloister keys list")
        self.write(tuple(key for key in keys if key is not revoked))
        return revoked


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
