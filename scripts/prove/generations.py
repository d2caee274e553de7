"""A thousand random damages to a generation, of every kind of index: all noticed, the one before is used.

    .venv/bin/python scripts/prove/generations.py [--damages 1000]

Bits flipped, runs zeroed, blocks swapped, files cut short or lengthened, anywhere in the file. Says how many were
noticed, and exits 1 when one was not.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from index.generations import Header, read_newest, write_generation
from index.vectors import BaseBuilder, Kind, Stored, VectorIndex

_DIMENSION, _COUNT = 384, 2000
_KINDS: tuple[Kind, ...] = ("exact", "scalar", "binary")


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Differs from `content`, unless it happens to put the same bytes there."""
    broken = bytearray(content)
    at, length = int(random.integers(len(content))), int(random.integers(1, 4096))
    match random.integers(5):
        case 0:
            broken[at] ^= 1 << int(random.integers(8))
        case 1:
            broken[at : at + length] = bytes(len(broken[at : at + length]))
        case 2:
            other = int(random.integers(len(content)))
            first, second = content[at : at + length], content[other : other + length]
            size = min(len(first), len(second))
            broken[at : at + size], broken[other : other + size] = second[:size], first[:size]
        case 3:
            del broken[at:]
        case _:
            broken += random.bytes(length)
    return bytes(broken)


def prove(folder: Path, kind: Kind, num_damages: int) -> int:
    """How many of the damages were not noticed."""
    random = np.random.default_rng(1)
    vectors = random.standard_normal((_COUNT, _DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(1, _COUNT + 1)
    builder = BaseBuilder(_DIMENSION, _COUNT, vectors, kind)
    builder.add(Stored(ids, ids % 3, vectors))
    for seq in (1, 2):
        header = Header("database", "space", _DIMENSION, _COUNT, seq)
        newest = write_generation(folder, header, builder.payload(), builder.stored())
    content, missed, same = newest.read_bytes(), 0, 0
    for _ in range(num_damages):
        broken = damage(content, random)
        newest.write_bytes(broken)
        found = read_newest(folder, "database", "space", _DIMENSION)
        if broken == content:
            same += 1
        elif found is None or found.header.seq != 1:
            missed += 1
    VectorIndex(_DIMENSION, found.payload, found.stored).close() if found else None
    print(f"{kind}: {num_damages - same} damages to {len(content):,} bytes, {num_damages - same - missed} noticed")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        missed = sum(prove(Path(folder, kind), kind, options.damages) for kind in _KINDS)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
