"""What a GGUF's header says layer by layer, which llama.cpp tells only to itself."""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_HEAD = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of keys
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST = 4096  # of an array by layer; longer ones are something else
_VOCABULARY = "tokenizer."  # begins what comes last, and is long


def numbers_by_layer(path: Path) -> dict[str, list[float]]:
    """Short arrays of numbers by key, as far as the vocabulary; none from a header that cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return dict(_arrays(content))
    except (OSError, ValueError, struct.error, KeyError, UnicodeDecodeError):  # cut, empty, or not a GGUF
        return {}


def _arrays(content: mmap.mmap) -> Iterator[tuple[str, list[float]]]:
    magic, _, _, num_keys = _HEAD.unpack_from(content)
    at = _HEAD.size
    for _ in range(num_keys if magic == b"GGUF" else 0):
        end = _after_string(content, at)
        key = content[at + 8 : end].decode()
        if key.startswith(_VOCABULARY):
            return
        (kind,) = struct.unpack_from("<I", content, end)
        at = end + 4
        if kind == _STRING:
            at = _after_string(content, at)
        elif kind == _ARRAY:
            kind, count = struct.unpack_from("<IQ", content, at)
            at += 12
            if kind == _STRING:
                for _ in range(count):
                    at = _after_string(content, at)
                continue
            if count <= _LONGEST:
                yield key, [float(number) for number in struct.unpack_from(f"<{count}{_FORMATS[kind]}", content, at)]
            at += count * struct.calcsize(f"<{_FORMATS[kind]}")
        else:
            at += struct.calcsize(f"<{_FORMATS[kind]}")


def _after_string(content: mmap.mmap, at: int) -> int:
    (size,) = struct.unpack_from("<Q", content, at)
    return at + 8 + int(size)
