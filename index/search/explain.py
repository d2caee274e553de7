"""Why a file is not among the passages of a question: where on the way it fell out."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import apsw
import msgspec

from index.reading.readers import is_readable
from index.search.deduplication import DeduplicatedPassages, Dropped, Reason
from index.storage.sqlite.database import IS_WATCHED, query
from index.types import Passage


class Outcome(StrEnum):
    FOUND = "found"
    NOT_INDEXED = "not_indexed"
    PENDING = "pending"
    FAILED = "failed"
    NO_TEXT = "no_text"
    FILTERED = "filtered"
    OUTRANKED = "outranked"
    THINNED = "thinned"
    BELOW_FLOOR = "below_floor"
    NO_ROOM = "no_room"


class Ranks(NamedTuple):
    """Of a file's best chunk, from 1: by meaning, by words, and in the fusion of the first of both. None: not found."""

    dense: int | None = None
    words: int | None = None
    fused: int | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`rank` is that among the results, from 1; `passage` the file's best, if it came that far; `instead` what stands
    in its place."""

    collection: str | None
    path: str
    outcome: Outcome
    reason: str  # for a person
    ranks: Ranks = Ranks()
    rank: int | None = None
    passage: Passage | None = None
    instead: tuple[Passage, ...] = ()


class IndexedFile(NamedTuple):
    """A file that has chunks, and may be found."""

    collection: str
    collection_id: int
    path: str
    document_id: int
    chunk_ids: list[int]


def look_up(
    db: apsw.Connection, collection: str | None, path: str, known: Sequence[str] | None = None
) -> list[IndexedFile | Explanation]:
    """The files of this path in a collection, or in any; or why there is nothing to be found of them. For whoever asks
    there are the `known` collections only (None: all)."""
    rows = query(
        db,
        "SELECT name, collections.id, documents.id, state, documents.error, note FROM documents"
        " JOIN collections ON collections.id = collection_id"
        f" WHERE path = ?1 AND {IS_WATCHED} AND (?2 IS NULL OR name = ?2) ORDER BY name",
        (path, collection),
    )
    found: list[IndexedFile | Explanation] = []
    for name, collection_id, document_id, state, error, note in rows:
        if known is not None and name not in known:
            continue
        ids = [id for (id,) in query(db, "SELECT id FROM chunks WHERE document_id = ?", (document_id,))]
        if ids:
            found.append(IndexedFile(name, collection_id, path, document_id, ids))
        elif state == "failed":
            found.append(_unfound(name, path, Outcome.FAILED, f"it could not be read: {error}"))
        elif state == "pending":
            found.append(_unfound(name, path, Outcome.PENDING, "it waits to be read"))
        else:
            found.append(_unfound(name, path, Outcome.NO_TEXT, f"it has no text{f': {note}' if note else ''}"))
    return found or [_unfound(collection, path, Outcome.NOT_INDEXED, _not_indexed(db, collection, path, known))]


def _unfound(collection: str | None, path: str, outcome: Outcome, reason: str) -> Explanation:
    return Explanation(collection=collection, path=path, outcome=outcome, reason=reason)


def _not_indexed(db: apsw.Connection, collection: str | None, path: str, known: Sequence[str] | None) -> str:
    rows = query(db, f"SELECT name, root FROM collections WHERE {IS_WATCHED}")
    roots = {name: root for name, root in rows if known is None or name in known}
    if collection is not None and collection not in roots:
        return f"there is no collection {collection!r}"
    wanted = [Path(root) for name, root in roots.items() if collection in (None, name)]
    if not any(_is_inside(root, path) for root in wanted):
        return "no watched folder has a file of this path; paths are relative to the collection's folder"
    if not is_readable(path):
        return f"files of this kind are not read: {PurePosixPath(path).suffix or 'no ending'}"
    return "the file is there and not followed: it is ignored, hidden, a link or too large, or was not seen yet"


def _is_inside(root: Path, path: str) -> bool:
    """Whether there is such a file; nothing is said of files elsewhere."""
    try:
        file = (root / path).resolve()
        return file.is_relative_to(root.resolve()) and file.is_file()
    except (OSError, ValueError):
        return False


def explained(file: IndexedFile, ranks: Ranks, thinned: DeduplicatedPassages) -> Explanation:
    """What became of a file that was searched for."""

    def told(outcome: Outcome, reason: str, passage: Passage | None, *instead: Passage) -> Explanation:
        return Explanation(
            collection=file.collection,
            path=file.path,
            outcome=outcome,
            reason=reason,
            ranks=ranks,
            rank=thinned.kept.index(passage) + 1 if passage in thinned.kept else None,
            passage=passage,
            instead=instead,
        )

    kept = next((p for p in thinned.kept if p.document_id == file.document_id), None)
    if kept is not None:
        return told(Outcome.FOUND, "it is among the results", kept)
    left_out = next((each for each in thinned.left_out if each.passage.document_id == file.document_id), None)
    if left_out is not None and left_out.reason != Reason.LATER:
        instead = _standing_for(left_out, thinned)
        named = f" as {', '.join(p.file for p in instead)}" if left_out.original else ""
        return told(Outcome.THINNED, f"left out: {left_out.reason}{named}", left_out.passage, *instead)
    passage = left_out.passage if left_out else None
    if ranks.dense is None and ranks.words is None:
        reason = "it has none of the question's words, and is far from its meaning"
    else:
        reason = f"{len(thinned.kept)} other passages are better: by meaning {_rank(ranks.dense)}, by words " + _rank(
            ranks.words
        )
    return told(Outcome.OUTRANKED, reason, passage, *thinned.kept)


def _standing_for(left_out: Dropped, thinned: DeduplicatedPassages) -> list[Passage]:
    """What is kept in its place: the passage that says the same, or those of its document."""
    gone = {each.passage.chunk_id: each for each in thinned.left_out}
    original = left_out.original
    while original is not None and original.chunk_id in gone:
        original = gone[original.chunk_id].original
    if original is not None:
        return [p for p in thinned.kept if p.chunk_id == original.chunk_id]
    return [p for p in thinned.kept if p.document_id == left_out.passage.document_id]


def _rank(rank: int | None) -> str:
    return "not found" if rank is None else f"rank {rank}"
