"""Lexical search with SQLite's FTS5: BM25 over headings and text, Porter stems.

A user's words are never FTS5 syntax: each becomes a quoted string. Dropping stop words and keeping repeats brought
FTS5 level with dedicated BM25 libraries (docs/architecture.md, Index).
"""

import re

import apsw
import msgspec

from index.database import query

_WORD = re.compile(r"\w+")
_HEADING_WEIGHT, _TEXT_WEIGHT = 2.0, 1.0
# English function words and the words questions are asked with.
_STOP_WORDS = frozenset(
    """
    a about after all also am an and any are as at be been before being but by can could did do does doing for from
    further had has have having he her here hers him his how i if in into is it its itself just may me might more
    most must my no nor not of off on once only or other our ours out over own please same shall she should so some
    such tell than that the their theirs them then there these they this those through to too under until up upon
    very was we were what when where which while who whom whose why will with would you your yours
    """.split()  # noqa: SIM905 - a list of a hundred quoted words reads worse
)


def match_expression(question: str) -> str | None:
    """FTS5's MATCH argument for any text; None when it has no word."""
    words = _WORD.findall(question.replace("_", " "))
    telling = [word for word in words if word.lower() not in _STOP_WORDS] or words
    return " OR ".join(f'"{word}"' for word in telling) or None


def search(connection: apsw.Connection, question: str, k: int, collection_ids: list[int]) -> list[tuple[int, float]]:
    """The `k` best chunks of these collections as (id, BM25), best first; larger is better."""
    expression = match_expression(question)
    if expression is None:
        return []
    rows = query(
        connection,
        f"SELECT lexical.rowid, -bm25(lexical, {_HEADING_WEIGHT}, {_TEXT_WEIGHT}) AS score FROM lexical"
        " JOIN chunks ON chunks.id = lexical.rowid JOIN documents ON documents.id = chunks.document_id"
        " WHERE lexical MATCH ?1 AND collection_id IN (SELECT value FROM json_each(?2)) ORDER BY score DESC LIMIT ?3",
        (expression, msgspec.json.encode(collection_ids).decode(), k),
    )
    return [(int(id), float(score)) for id, score in rows]
