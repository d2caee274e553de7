"""API keys in a file of the data folder."""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from server.access.keys import Key, KeyStore
from server.errors import KeyStoreError

KEYS_FILE = "keys.json"


class _Keys(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...] = ()


class KeyFile(KeyStore):
    """A key store that reads its file again when it has changed."""

    def __init__(self, data_folder: Path) -> None:
        self.path = data_folder / KEYS_FILE
        self._version: tuple[int, int, int] | None = None  # inode, time and size of the file as it was read
        self._keys: tuple[Key, ...] = ()

    def read(self) -> Sequence[Key]:
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self._version, self._keys = None, ()
            return ()
        except OSError as error:
            raise self._error(f"it cannot be read: {error.strerror}") from error
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._version:
            if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
                raise self._error("others may read it; say chmod 600")
            self._keys, self._version = self._decode(), version
        return self._keys

    def write(self, keys: Sequence[Key]) -> None:
        text = json.dumps(msgspec.to_builtins(_Keys(tuple(keys))), indent=1) + "\n"
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        self._version, self._keys = None, tuple(keys)

    def _decode(self) -> tuple[Key, ...]:
        try:
            keys = msgspec.json.decode(self.path.read_bytes(), type=_Keys).keys
            for key in keys:
                key.rank  # noqa: B018 - raises for a role that there is not
        except OSError as error:
            raise self._error(f"it cannot be read: {error.strerror}") from error
        except (msgspec.MsgspecError, KeyError) as error:
            raise self._error(f"it is damaged ({error}); put it right, or remove it and make keys") from error
        return keys

    def _error(self, reason: str) -> KeyStoreError:
        return KeyStoreError(f"{self.path}: {reason}")
