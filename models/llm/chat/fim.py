"""Filling a gap: the tokens around it in the order that a model was trained on ("fill in the middle").

    <repository> project ⏎ (<file> name ⏎ text)* <file> name ⏎ <prefix> before <suffix> after <middle>

as llama.cpp lays them out. Where a vocabulary has no tokens for other files, their text comes first, set apart by
words. What is too long for the context gives way where it is farthest from the gap, other files first.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from models.llm.gguf.info import FimTokens

_PROJECT = "project\n"
_CURRENT = "filename\n"
_APART = "\n\n--- snippet ---\n\n"
_SHARE = 4  # of the room, the text behind the gap has one part for sure
_STEPS = 4  # in which the text before the gap is shortened: its beginning stays, in memory, while more is typed

Tokenize = Callable[[str], list[int]]


class Extra(NamedTuple):
    """Text from elsewhere in the project."""

    text: str
    name: str = "tmp"


class Gap(NamedTuple):
    """The later of `extra` matter more."""

    before: str
    after: str
    extra: Sequence[Extra] = ()


def fill(gap: Gap, tokens: FimTokens, tokenize: Tokenize, room: int, bos: int | None = None) -> list[int]:
    """The prompt, of at most `room` tokens. `tokenize` reads no control tokens and adds nothing."""
    has_files = bool(gap.extra) and tokens.file is not None
    current = [tokens.file, *tokenize(_CURRENT)] if has_files and tokens.file is not None else []
    start = [] if bos is None else [bos]
    project = [tokens.repository, *tokenize(_PROJECT)] if has_files and tokens.repository is not None else []
    room = max(room - len(start) - len(project) - len(current) - 3, _SHARE)
    before, after = _around(tokenize(gap.before), tokenize(gap.after), room)
    extra = _latest([_chunk(each, tokens, tokenize) for each in gap.extra], room - len(before) - len(after))
    return [*start, *project, *extra, *current, tokens.prefix, *before, tokens.suffix, *after, tokens.middle]


def _around(before: list[int], after: list[int], room: int) -> tuple[list[int], list[int]]:
    after = after[: max(room // _SHARE, room - len(before))]
    limit = room - len(after)
    if len(before) > limit:
        step = max(limit // _STEPS, 1)
        before = before[-(-(len(before) - limit) // step) * step :]
    return before, after


def _latest(chunks: Sequence[list[int]], room: int) -> list[int]:
    """As many of the last as there is room for, each whole."""
    kept: list[int] = []
    for chunk in reversed(chunks):
        if len(kept) + len(chunk) > room:
            break
        kept = chunk + kept
    return kept


def _chunk(extra: Extra, tokens: FimTokens, tokenize: Tokenize) -> list[int]:
    if tokens.file is None:
        return tokenize(_APART + extra.text)
    return [tokens.file, *tokenize(f"{extra.name}\n"), *tokenize(extra.text)]
