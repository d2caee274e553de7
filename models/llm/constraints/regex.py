"""Regular expressions, checked and rewritten before llguidance sees them."""

import re
from collections.abc import Iterator

from models.errors import GrammarError
from models.llm.constraints.limits import MAX_DEPTH, MAX_WEIGHT

_LEXEME = re.compile(
    r"(?P<class>\[\^?+(?:\\.|(?!&&|--|~~)[^\\\[\]])+\]|\\[pP](?:\{[^}]*\}|.))"
    r"|(?P<nul>\x00|\\(?:x00|u0000|U0{8}|[xuU]\{0+\}))|(?P<atom>\\[xuU]\{[^}]*\}|\\x..|\\u....|\\U.{8}|\\[^xuU])"
    r"|(?P<flags>\(\?[ims]+\))|(?P<open>\((?:\?(?:[ims]*:|P?<\w+>))?(?!\?))|(?P<close>\))"
    r"|(?P<times>\{(?P<least>\d+)(?:,(?P<most>\d*))?\})|(?P<other>[^\\\[({])",
    re.DOTALL,
)
_PLAIN_CLASS = re.compile(r"\[(?!\^)(?:[^\\\x00-\x1f]|\\[dws.\-\[\]/])+\]")


def _lexemes(pattern: str, path: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(pattern):
        match = _LEXEME.match(pattern, position)
        if not match:
            raise GrammarError(f"{pattern[position : position + 8]!r} in an expression is not supported", path)
        position = match.end()
        yield match


def check_regex(pattern: str, path: str) -> None:
    """Raise `GrammarError` for an expression that costs too much. Whether it is valid, the compiler checks."""
    open_groups = [(0, 0)]  # weight of all atoms but the last, and of the last
    for match in _lexemes(pattern, path):
        weight, last = open_groups[-1]
        if match["open"]:
            open_groups.append((0, 0))
        elif match["close"]:
            open_groups.pop()
            before, previous = open_groups.pop() if open_groups else (0, 0)
            open_groups.append((before + previous, weight + last))
        elif match["times"]:
            times = max(1, int(match["least"][:9]), int((match["most"] or "0")[:9]))
            open_groups[-1] = (weight, last * times)
        elif not match["flags"]:
            open_groups[-1] = (weight + last, 1)
        if len(open_groups) > MAX_DEPTH or sum(map(sum, open_groups)) > MAX_WEIGHT:
            raise GrammarError("too many groups in each other, or too many repetitions", path)


def string_regex(pattern: str, path: str) -> str:
    r"""Return the expression for use inside JSON strings.

    A character class with all control characters lets llguidance 1.9.1 write `\"` and `\\` too, wanted or not
    (derivre's quote_byteset); so no class keeps U+0000, which no string may contain anyway.
    """
    check_regex(pattern, path)
    parts = []
    for match in _lexemes(pattern, path):
        if match["nul"]:
            raise GrammarError("U+0000 is not supported", path)
        is_risky = match["class"] and not _PLAIN_CLASS.fullmatch(match[0])
        parts.append(rf"[{match[0]}--\x00]" if is_risky else match[0])
    return "".join(parts)
