"""Read the values of a GGUF's header that differ by layer; llama.cpp's API does not return arrays.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_HEAD = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of keys
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_LAYERS = 4096  # a longer array does not hold values by layer
_VOCABULARY_PREFIX = "tokenizer."  # of the keys that come last, with long values


def numbers_by_layer(path: Path) -> dict[str, list[float]]:
    """Return the short arrays of numbers before the vocabulary, by key; empty for a header that cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return dict(_arrays(content))
    except (OSError, ValueError, struct.error, KeyError, UnicodeDecodeError):  # truncated, empty, or not a GGUF
        return {}


def _arrays(content: mmap.mmap) -> Iterator[tuple[str, list[float]]]:
    magic, _, _, num_keys = _HEAD.unpack_from(content)
    position = _HEAD.size
    for _ in range(num_keys if magic == b"GGUF" else 0):
        end = _after_string(content, position)
        key = content[position + 8 : end].decode()
        if key.startswith(_VOCABULARY_PREFIX):
            return
        (kind,) = struct.unpack_from("<I", content, end)
        position = end + 4
        if kind == _STRING:
            position = _after_string(content, position)
        elif kind == _ARRAY:
            kind, count = struct.unpack_from("<IQ", content, position)
            position += 12
            if kind == _STRING:
                for _ in range(count):
                    position = _after_string(content, position)
                continue
            if count <= _MAX_LAYERS:
                yield (
                    key,
                    [float(number) for number in struct.unpack_from(f"<{count}{_FORMATS[kind]}", content, position)],
                )
            position += count * struct.calcsize(f"<{_FORMATS[kind]}")
        else:
            position += struct.calcsize(f"<{_FORMATS[kind]}")


def _after_string(content: mmap.mmap, position: int) -> int:
    (size,) = struct.unpack_from("<Q", content, position)
    return position + 8 + int(size)
