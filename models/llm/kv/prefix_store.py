"""Prefixes on disk: what a model had in memory of prompts that came more than once, for the next start.

A file is one prefix: its tokens, and llama.cpp's state of a sequence that has read them. A state is worth much (seconds
or minutes of computing) and can always be made again, so nothing here is synced: a file whose digests do not hold is
not used and goes. A prompt is in the file for whoever can read it, as it is in the index: mode 0600.
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

from models.llm.kv.prefixes import State, Tokens, contained, covers, ids, longest

_MAGIC = b"cloister prefix 1\n"
_HEAD = struct.Struct(f"<{len(_MAGIC)}s32sIQ32s32s")  # magic, model, tokens, bytes of state, digests: head, state
_SUFFIX = ".prefix"
_MAX_WRITE_S = 3600  # a part of a file older than that is nobody's


class Saved(NamedTuple):
    """A prefix that lies on disk."""

    path: Path
    tokens: Tokens
    size: int  # bytes of the state
    digest: bytes  # of the state


class PrefixStore:
    """The prefixes of one model in a folder that models share, within `max_bytes` for all of them.

    `model`: 32 bytes that name the model and how it is run; files of other models are left alone, and are the first to
    go when room is needed, being least recently used. Safe to use from several threads.
    """

    def __init__(self, folder: Path, model: bytes, max_bytes: int) -> None:
        """Reads what is there; a file that is not whole goes."""
        self._folder = folder
        self._model = model
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._saved: dict[Path, Saved] = {}
        for left_over in folder.glob("*.part"):
            with contextlib.suppress(OSError):
                if time.time() - left_over.stat().st_mtime > _MAX_WRITE_S:
                    left_over.unlink()
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(OSError):
                self._take_in(path)

    def __len__(self) -> int:
        return len(self._saved)

    def _take_in(self, path: Path) -> None:
        saved = _read_head(path, self._model)
        if isinstance(saved, Saved):
            self._saved[path] = saved
        elif not saved:
            path.unlink(missing_ok=True)

    def match(self, tokens: Sequence[int], *, whole: bool = False) -> tuple[Saved | None, int]:
        """The saved prefix with which `tokens` agree longest, and how far; see `longest`."""
        return longest(list(self._saved.values()), tokens, whole=whole)

    def covers(self, tokens: Sequence[int], *, whole: bool = False) -> bool:
        """Whether a saved prefix begins with all of these; with `whole`, is these."""
        return covers(list(self._saved.values()), ids(tokens), whole=whole)

    def read(self, saved: Saved) -> bytes | None:
        """Its state; None, and it is no longer saved, if the file is gone or not what was written."""
        with contextlib.suppress(OSError):
            with saved.path.open("rb") as file:
                file.seek(_HEAD.size + saved.tokens.nbytes)
                state = file.read(saved.size + 1)
            if _digest(state) == saved.digest:
                os.utime(saved.path)
                return state
        self.drop(saved)
        return None

    def drop(self, saved: Saved) -> None:
        self._saved.pop(saved.path, None)
        with contextlib.suppress(OSError):
            saved.path.unlink(missing_ok=True)

    def write(self, tokens: Sequence[int], state: State, *, whole: bool = False) -> bool:
        """Keeps a prefix; others go for it, least recently used first. False when there is no room for it at all.

        Unless states are only good `whole`, prefixes that these tokens begin with go too: this one contains them.
        """
        prefix = ids(tokens)
        if not self._make_room(_HEAD.size + prefix.nbytes + len(state)):
            return False
        path = self._folder / f"{hashlib.sha256(self._model + prefix.tobytes()).hexdigest()[:32]}{_SUFFIX}"
        saved = Saved(path, prefix, len(state), _digest(state))
        try:
            _write(saved, self._model, state)
        except OSError:  # a full disk, say: the prefix is computed again next time
            return False
        for shorter in [] if whole else contained(list(self._saved.values()), prefix):
            self.drop(shorter)
        self._saved[path] = saved
        return True

    def _make_room(self, size: int) -> bool:
        if size > self._max_bytes:
            return False
        files = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        used = sum(each for _, each, _ in files)
        for _, freed, path in sorted(files):
            if used + size <= self._max_bytes:
                break
            self._saved.pop(path, None)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            used -= freed
        return used + size <= self._max_bytes


def _digest(content: State) -> bytes:
    return hashlib.blake2b(content, digest_size=32).digest()


def _head(saved: Saved, model: bytes, digest: bytes) -> bytes:
    return _HEAD.pack(_MAGIC, model, len(saved.tokens), saved.size, digest, saved.digest)


def _write(saved: Saved, model: bytes, state: State) -> None:
    """Whole or not at all, under its name."""
    tokens = saved.tokens.astype("<i4").tobytes()
    head = _head(saved, model, _digest(_head(saved, model, bytes(32)) + tokens))
    descriptor, name = tempfile.mkstemp(dir=saved.path.parent, suffix=".part")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines((head, tokens, state))
        Path(name).replace(saved.path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read_head(path: Path, model: bytes) -> Saved | bool:
    """What the file says it holds; False when it is damaged, True when it is another model's."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return False
        magic, owner, num_tokens, size, digest, state_digest = _HEAD.unpack(head)
        if magic != _MAGIC or path.stat().st_size != _HEAD.size + 4 * num_tokens + size:
            return False
        if owner != model:
            return True
        tokens = file.read(4 * num_tokens)
    saved = Saved(path, np.frombuffer(tokens, "<i4").astype(np.int32), size, state_digest)
    return saved if _digest(_head(saved, model, bytes(32)) + tokens) == digest else False
