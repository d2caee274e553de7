"""A model's files: one GGUF, or all parts of a split one."""

import re
from pathlib import Path

from models.errors import ModelFileError

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def model_parts(path: Path) -> list[Path]:
    """Return all files of the model in order, whichever part `path` is. Raises `ModelFileError` when one is missing."""
    part = _PART.fullmatch(path.name)
    if part is None:
        return [path]
    count = int(part["count"])
    parts = [path.with_name(f"{part['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    for each in parts:
        if not each.is_file():
            raise ModelFileError(each, f"this part of a model of {count} files is missing; put it beside the others")
    return parts


def model_name(path: Path) -> str:
    """Return the model's name for clients: the file name without suffix and part number."""
    part = _PART.fullmatch(path.name)
    return part["stem"] if part else path.stem
