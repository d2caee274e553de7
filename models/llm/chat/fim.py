"""Prompts that fill a gap ("fill in the middle"): the texts around it in the order that a model was trained on.

    <repository> project ⏎ (<file> name ⏎ text)* <file> name ⏎ <prefix> before <suffix> after <middle>

as llama.cpp lays them out. If a vocabulary has no tokens for other files, their text comes first, set apart by words.
A text that is too long for the context is cut where it is farthest from the gap, other files first.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from models.llm.gguf.info import FimTokens

_PROJECT = "project\n"
_CURRENT = "filename\n"
_SNIPPET_HEADING = "\n\n--- snippet ---\n\n"
_SHARE = 4  # the text after the gap gets at least one part in four of the room
_STEPS = 4  # the text before the gap is cut in steps of this part of the room, so that prompts keep their prefix

Tokenize = Callable[[str], list[int]]


class Extra(NamedTuple):
    """Text from elsewhere in the project."""

    text: str
    name: str = "tmp"


class Gap(NamedTuple):
    """The place to fill. Later items of `extra` matter more."""

    before: str
    after: str
    extra: Sequence[Extra] = ()


def fill(gap: Gap, tokens: FimTokens, tokenize: Tokenize, room: int, bos: int | None = None) -> list[int]:
    """Return the prompt, at most `room` tokens. `tokenize` must read no control tokens and add none."""
    has_files = bool(gap.extra) and tokens.file is not None
    current = [tokens.file, *tokenize(_CURRENT)] if has_files and tokens.file is not None else []
    start = [] if bos is None else [bos]
    project = [tokens.repository, *tokenize(_PROJECT)] if has_files and tokens.repository is not None else []
    room = max(room - len(start) - len(project) - len(current) - 3, _SHARE)
    before, after = _around(tokenize(gap.before), tokenize(gap.after), room)
    extra = _latest([_extra_tokens(each, tokens, tokenize) for each in gap.extra], room - len(before) - len(after))
    return [*start, *project, *extra, *current, tokens.prefix, *before, tokens.suffix, *after, tokens.middle]


def _around(before: list[int], after: list[int], room: int) -> tuple[list[int], list[int]]:
    after = after[: max(room // _SHARE, room - len(before))]
    limit = room - len(after)
    if len(before) > limit:
        step = max(limit // _STEPS, 1)
        before = before[-(-(len(before) - limit) // step) * step :]
    return before, after


def _latest(chunks: Sequence[list[int]], room: int) -> list[int]:
    """Return as many of the last chunks as there is room for, each whole."""
    latest: list[int] = []
    for chunk in reversed(chunks):
        if len(latest) + len(chunk) > room:
            break
        latest = chunk + latest
    return latest


def _extra_tokens(extra: Extra, tokens: FimTokens, tokenize: Tokenize) -> list[int]:
    if tokens.file is None:
        return tokenize(_SNIPPET_HEADING + extra.text)
    return [tokens.file, *tokenize(f"{extra.name}\n"), *tokenize(extra.text)]
