"""Merges passages that lie side by side in one section of a document."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from index.types import Passage


def merge_adjacent(passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages with adjacent ones as one, ordered by the best part of each.

    A merged passage has the chunk id and the score of its best part.
    """
    groups: list[list[Passage]] = []
    for passage in sorted(passages, key=lambda p: (p.document_id, p.line_from, p.chunk_id)):
        if groups and _is_adjacent(groups[-1][-1], passage):
            groups[-1].append(passage)
        else:
            groups.append([passage])
    rank = {passage.chunk_id: at for at, passage in enumerate(passages)}
    groups.sort(key=lambda group: min(rank[each.chunk_id] for each in group))
    return [_merge(group, min(group, key=lambda each: rank[each.chunk_id])) for group in groups]


def _is_adjacent(first: Passage, second: Passage) -> bool:
    """Return whether at most an empty line lies between them. Parts of a table never count: each has its header."""
    return (
        (first.document_id, first.heading) == (second.document_id, second.heading)
        and first.place == second.place
        and not first.lead
        and not second.lead
        and first.chunk_id < second.chunk_id
        and 0 <= second.line_from - first.line_to <= 2
    )


def _merge(group: Sequence[Passage], best: Passage) -> Passage:
    if len(group) == 1:
        return best
    text = group[0].text
    for before, after in pairwise(group):
        gap = after.line_from - before.line_to
        text += ("\n" * gap or " ") + after.text
    first, last = group[0], group[-1]
    span = first.chunk_id, last.chunk_id
    return msgspec.structs.replace(best, text=text, line_from=first.line_from, line_to=last.line_to, span=span)
