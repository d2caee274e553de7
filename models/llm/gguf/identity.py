"""Which model files these are, told without reading them whole: a state computed with one is of no use to another."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_SAMPLES, _SAMPLE = 64, 1 << 16  # spread over a file; bytes of each


def identity_of(paths: Iterable[Path], *facts: str) -> bytes:
    """32 bytes from each file's size, its head, samples of its middle and its end, and the facts."""
    digest = hashlib.blake2b("\0".join(facts).encode(), digest_size=32)
    for path in paths:
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(f"\0{size}".encode())
            for i in range(_SAMPLES + 1):
                file.seek(max(size - _SAMPLE, 0) * i // _SAMPLES)
                digest.update(file.read(_SAMPLE))
    return digest.digest()
