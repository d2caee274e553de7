"""Prefixes on disk: the model's memory of prompts that came more than once, kept over restarts.

A file is one prefix: its tokens, and llama.cpp's state of a slot that has read them. A state saves seconds or minutes
of computing and can always be computed again, so files are not synced: a file whose digests do not match is deleted.
Whoever can read the file can read the prompt, as with the index: mode 0600.
"""

import contextlib
import hashlib
import os
import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.llm.kv.base import State, TokenArray
from models.llm.kv.prefixes import is_covered, longest_match, shorter_prefixes, token_array

_MAGIC = b"cloister prefix 1\n"
# magic, model, number of tokens, bytes of the state, digest of head and tokens, digest of the state
_HEAD = struct.Struct(f"<{len(_MAGIC)}s32sIQ32s32s")
_SUFFIX = ".prefix"
_PARTIAL_SUFFIX = ".part"
_MAX_WRITE_S = 3600  # a partial file that is older belongs to no writer any more


class StoredPrefix(NamedTuple):
    """A prefix in a file."""

    path: Path
    tokens: TokenArray
    size: int  # bytes of the state
    digest: bytes  # of the state


class PrefixStore:
    """The prefixes of one model, in a folder that models share, within `max_bytes` for all of them.

    `model`: 32 bytes that name the model and how it is run. Files of other models are left alone until room is needed;
    then the least recently used file is deleted first, whichever model it belongs to. Thread-safe.
    """

    def __init__(self, folder: Path, model: bytes, max_bytes: int) -> None:
        """Read the folder and delete damaged files. Raises `OSError` when the folder cannot be created."""
        self._folder = folder
        self._model = model
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._prefixes: dict[Path, StoredPrefix] = {}
        for partial in folder.glob(f"*{_PARTIAL_SUFFIX}"):
            with contextlib.suppress(OSError):
                if time.time() - partial.stat().st_mtime > _MAX_WRITE_S:
                    partial.unlink()
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(OSError):
                self._read_head(path)

    def __len__(self) -> int:
        return len(self._prefixes)

    def _read_head(self, path: Path) -> None:
        try:
            prefix = _read_head(path, self._model)
        except _DamagedFile:
            path.unlink(missing_ok=True)
        else:
            if prefix is not None:
                self._prefixes[path] = prefix

    def match(self, tokens: Sequence[int], *, whole: bool = False) -> tuple[StoredPrefix | None, int]:
        """Return the prefix that has most tokens in common with `tokens`, and how many; see `longest_match`."""
        return longest_match(list(self._prefixes.values()), tokens, whole=whole)

    def is_covered(self, tokens: Sequence[int], *, whole: bool = False) -> bool:
        """Return whether a stored prefix begins with all of `tokens`; with `whole`, whether one is equal to them."""
        return is_covered(list(self._prefixes.values()), token_array(tokens), whole=whole)

    def read(self, prefix: StoredPrefix) -> bytes | None:
        """Return a prefix's state and mark it as used; drop it and return None when the file is gone or damaged."""
        with contextlib.suppress(OSError):
            with prefix.path.open("rb") as file:
                file.seek(_HEAD.size + prefix.tokens.nbytes)
                state = file.read(prefix.size + 1)
            if _digest(state) == prefix.digest:
                os.utime(prefix.path)
                return state
        self.drop(prefix)
        return None

    def drop(self, prefix: StoredPrefix) -> None:
        """Delete a prefix. Idempotent."""
        self._prefixes.pop(prefix.path, None)
        with contextlib.suppress(OSError):
            prefix.path.unlink(missing_ok=True)

    def write(self, tokens: Sequence[int], state: State, *, whole: bool = False) -> bool:
        """Store a prefix, deleting the least recently used files for it; False when it cannot be written.

        Shorter prefixes that `tokens` begin with are dropped, because this one contains them; with `whole` they are
        kept, because a state is only of use for its whole prefix.
        """
        array = token_array(tokens)
        if not self._make_room(_HEAD.size + array.nbytes + len(state)):
            return False
        path = self._folder / f"{hashlib.sha256(self._model + array.tobytes()).hexdigest()[:32]}{_SUFFIX}"
        prefix = StoredPrefix(path, array, len(state), _digest(state))
        try:
            _write_file(prefix, self._model, state)
        except OSError:  # a full disk, say: the prefix is computed again next time
            return False
        for shorter in [] if whole else shorter_prefixes(list(self._prefixes.values()), array):
            self.drop(shorter)
        self._prefixes[path] = prefix
        return True

    def _make_room(self, size: int) -> bool:
        """Delete files until `size` more bytes fit; False when they never do."""
        if size > self._max_bytes:
            return False
        files = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(file_size for _, file_size, _ in files)
        for _, file_size, path in sorted(files):
            if total + size <= self._max_bytes:
                break
            self._prefixes.pop(path, None)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            total -= file_size
        return total + size <= self._max_bytes


class _DamagedFile(Exception):
    """The file is not a whole prefix file."""


def _digest(content: State) -> bytes:
    return hashlib.blake2b(content, digest_size=32).digest()


def _head(prefix: StoredPrefix, model: bytes, digest: bytes) -> bytes:
    return _HEAD.pack(_MAGIC, model, len(prefix.tokens), prefix.size, digest, prefix.digest)


def _write_file(prefix: StoredPrefix, model: bytes, state: State) -> None:
    """Write a prefix under its name, whole or not at all. Raises `OSError`."""
    tokens = prefix.tokens.astype("<i4").tobytes()
    head = _head(prefix, model, _digest(_head(prefix, model, bytes(32)) + tokens))
    descriptor, name = tempfile.mkstemp(dir=prefix.path.parent, suffix=_PARTIAL_SUFFIX)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines((head, tokens, state))
        Path(name).replace(prefix.path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read_head(path: Path, model: bytes) -> StoredPrefix | None:
    """Return what the file holds; None when it is another model's. Raises `OSError` and `_DamagedFile`."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _DamagedFile
        magic, owner, num_tokens, size, digest, state_digest = _HEAD.unpack(head)
        if magic != _MAGIC or path.stat().st_size != _HEAD.size + 4 * num_tokens + size:
            raise _DamagedFile
        if owner != model:
            return None
        tokens = file.read(4 * num_tokens)
    prefix = StoredPrefix(path, np.frombuffer(tokens, "<i4").astype(np.int32), size, state_digest)
    if _digest(_head(prefix, model, bytes(32)) + tokens) != digest:
        raise _DamagedFile
    return prefix
