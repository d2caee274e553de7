"""Finds the stage of a search at which an expected file was lost."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from index.reading.readers import is_readable
from index.search.deduplication import DeduplicatedPassages, DroppedPassage, DropReason
from index.search.explanation import Explanation, Outcome, Ranks
from index.storage.sqlite.reader import FileRecord, IndexReader
from index.types import Passage


def find_expected(
    reader: IndexReader, collection: str | None, path: str, known: Sequence[str] | None = None
) -> list[FileRecord | Explanation]:
    """Return the files at this path in a collection, or (None) in any of the `known` ones (None: all).

    An explanation stands for a file that has no chunks, and for a path at which there is no file.
    """
    files = [file for file in reader.files_at(path, collection) if known is None or file.collection in known]
    if files:
        return [file if file.chunk_ids else _explain_without_chunks(file, path) for file in files]
    reason = _why_not_indexed(reader, collection, path, known)
    return [Explanation(collection=collection, path=path, outcome=Outcome.NOT_INDEXED, reason=reason)]


def _explain_without_chunks(file: FileRecord, path: str) -> Explanation:
    if file.state == "failed":
        outcome, reason = Outcome.FAILED, f"it could not be read: {file.error}"
    elif file.state == "pending":
        outcome, reason = Outcome.PENDING, "it waits to be read"
    else:
        outcome, reason = Outcome.NO_TEXT, f"it has no text{f': {file.note}' if file.note else ''}"
    return Explanation(collection=file.collection, path=path, outcome=outcome, reason=reason)


def _why_not_indexed(reader: IndexReader, collection: str | None, path: str, known: Sequence[str] | None) -> str:
    roots = {name: root for name, root in reader.watched_roots().items() if known is None or name in known}
    if collection is not None and collection not in roots:
        return f"there is no collection {collection!r}"
    if not any(_is_file(root, path) for name, root in roots.items() if collection in (None, name)):
        return "no watched folder has a file of this path; paths are relative to the collection's folder"
    if not is_readable(path):
        return f"files of this kind are not read: {PurePosixPath(path).suffix or 'no ending'}"
    return "the file is there and not followed: it is ignored, hidden, a link or too large, or was not seen yet"


def _is_file(root: Path, path: str) -> bool:
    """Return whether the folder has a file at this path; False for every path that leads out of it."""
    try:
        file = (root / path).resolve()
        return file.is_relative_to(root.resolve()) and file.is_file()
    except (OSError, ValueError):
        return False


def explain_file(file: FileRecord, path: str, ranks: Ranks, result: DeduplicatedPassages) -> Explanation:
    """Explain the place of a file with chunks in a search's result."""
    kept = next((passage for passage in result.passages if passage.document_id == file.document_id), None)
    dropped = next((each for each in result.dropped_passages if each.passage.document_id == file.document_id), None)
    instead: Sequence[Passage] = ()
    if kept is not None:
        outcome, reason = Outcome.FOUND, "it is among the results"
    elif dropped is not None and dropped.reason != DropReason.LATER:
        outcome, instead = Outcome.DROPPED, _substitutes(dropped, result)
        names = f" as {', '.join(passage.file for passage in instead)}" if dropped.original else ""
        reason = f"left out: {dropped.reason}{names}"
    elif ranks.dense is None and ranks.words is None:
        outcome, instead = Outcome.OUTRANKED, result.passages
        reason = "it has none of the question's words, and is far from its meaning"
    else:
        outcome, instead = Outcome.OUTRANKED, result.passages
        dense, words = _format_rank(ranks.dense), _format_rank(ranks.words)
        reason = f"{len(result.passages)} other passages are better: by meaning {dense}, by words {words}"
    return Explanation(
        collection=file.collection,
        path=path,
        outcome=outcome,
        reason=reason,
        ranks=ranks,
        rank=None if kept is None else result.passages.index(kept) + 1,
        passage=kept or (dropped.passage if dropped else None),
        instead=tuple(instead),
    )


def _substitutes(dropped: DroppedPassage, result: DeduplicatedPassages) -> list[Passage]:
    """Return the passages kept in place of a dropped one: the one that says the same, or those of its document."""
    by_chunk = {each.passage.chunk_id: each for each in result.dropped_passages}
    original = dropped.original
    while original is not None and original.chunk_id in by_chunk:
        original = by_chunk[original.chunk_id].original
    if original is not None:
        return [passage for passage in result.passages if passage.chunk_id == original.chunk_id]
    return [passage for passage in result.passages if passage.document_id == dropped.passage.document_id]


def _format_rank(rank: int | None) -> str:
    return "not found" if rank is None else f"rank {rank}"
