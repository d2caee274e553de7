"""Keys: who may ask, for what. On disk are their hashes; a key itself is shown once, when it is made."""

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

import msgspec

from server.errors import KeyFileError

PREFIX = "clst_"
_FILE = "keys.json"


class Role(IntEnum):
    """Each may do what those before it may."""

    READ = 1  # ask, search, list
    WRITE = 2  # add and remove files and stores, steer the indexer
    ADMIN = 3  # everything


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """`digest` is SHA-256 of the key, in hex: a key has 256 random bits, so nothing slower is needed. `collections`
    None: all. `rate`: requests a minute, None: as many as come. Times are Unix seconds."""

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


class _Keys(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...] = ()


class KeyFile:
    """The keys of a data folder, as the file has them now: it is read again when it has changed."""

    def __init__(self, data: Path) -> None:
        self.path = data / _FILE
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def read(self) -> Sequence[Key]:
        """Raises `KeyFileError`."""
        try:
            state = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self._seen, self._keys = None, ()
            return ()
        except OSError as error:
            raise KeyFileError(self.path, f"it cannot be read: {error.strerror}") from error
        seen = (state.st_ino, state.st_mtime_ns, state.st_size)
        if seen != self._seen:
            if os.name == "posix" and stat.S_IMODE(state.st_mode) & 0o077:
                raise KeyFileError(self.path, "others may read it; say chmod 600")
            self._keys, self._seen = self._decoded(), seen
        return self._keys

    def find(self, told: str) -> Key | None:
        """The valid key with this text. Takes as long whatever is wrong with it. Raises `KeyFileError`."""
        digest, now = _digest(told), time.time()
        matching = [key for key in self.read() if hmac.compare_digest(key.digest.encode(), digest.encode())]
        return next((key for key in matching if key.is_valid(now)), None)

    def create(
        self,
        name: str,
        role: Role,
        collections: Sequence[str] | None = None,
        rate: int | None = None,
        expires_at: int | None = None,
    ) -> tuple[Key, str]:
        """A new key, and its text, which is not kept. Raises `KeyFileError`, also for a name that is taken."""
        if any(key.name == name for key in self.read()):
            raise KeyFileError(self.path, f"there is a key named {name!r}; revoke it, or choose another name")
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
        self._write((*self._keys, key))
        return key, text

    def revoke(self, name_or_id: str) -> Key:
        """Raises `KeyFileError` when there is no such key."""
        gone = next((key for key in self.read() if name_or_id in (key.name, key.id)), None)
        if gone is None:
            raise KeyFileError(self.path, f"there is no key {name_or_id!r}")
        self._write(tuple(key for key in self._keys if key is not gone))
        return gone

    def _decoded(self) -> tuple[Key, ...]:
        try:
            keys = msgspec.json.decode(self.path.read_bytes(), type=_Keys).keys
            for key in keys:
                key.rank  # noqa: B018 - raises for a role that there is not
        except OSError as error:
            raise KeyFileError(self.path, f"it cannot be read: {error.strerror}") from error
        except (msgspec.MsgspecError, KeyError) as error:
            raise KeyFileError(
                self.path, f"it is damaged ({error}); put it right, or remove it and make keys"
            ) from error
        return keys

    def _write(self, keys: tuple[Key, ...]) -> None:
        """As a whole, or not at all."""
        text = json.dumps(msgspec.to_builtins(_Keys(keys)), indent=1) + "\n"
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        self._seen, self._keys = None, keys


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
