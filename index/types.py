"""The words of the index. A document becomes chunks; a chunk that was found is a passage.

`Embedder` and its kin are what this package needs from a model; it knows no model itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from index.uploads import display_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]  # unit vectors, one a row
    Scores = NDArray[np.float32]
    Ids = NDArray[np.int64]
else:  # a process that only reads files has no use for numpy and its threads
    Vectors = Scores = Ids = Any

Hits = list[tuple[int, float]]  # chunk id and score, best first

_ABBREVIATED = {"page": ("p.", "pp."), "sheet": ("row", "rows")}  # other units are told by their names


class DocumentEmbedder(Protocol):
    """What the indexer needs. `fingerprint` names the vector space: equal fingerprints, comparable vectors."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int: ...
    def embed_documents(self, texts: Sequence[str]) -> Vectors: ...


class Reranker(Protocol):
    """What orders passages by reading them with the question. Higher scores are better; their scale is the model's."""

    async def rerank(self, query: str, texts: Sequence[str]) -> Scores: ...


def is_managed(collection: str) -> bool:
    """Whether the collection of this name is managed, see `Collection`. Names of watched folders begin with no dot."""
    return collection.startswith(".")


class Collection(msgspec.Struct, frozen=True):
    """A folder that is followed, under a name.

    A person's folder is watched; a managed one lies in the data folder, and the server writes and deletes its files
    itself. A managed collection is searched only where it is named, and what is deleted in it is meant.
    """

    name: str
    root: Path

    @property
    def is_managed(self) -> bool:
        return is_managed(self.name)


class Query(NamedTuple):
    """A way to put a question, and how much it counts beside the other ways."""

    text: str
    weight: float = 1.0


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which files are searched; what is not given limits nothing.

    `paths` are patterns in the syntax of `.gitignore`, relative to the collection's folder: a file passes that matches
    one of them, or if all begin with `!`, and none of those with `!`. `kinds` are endings of names: `pdf`, `.md`. Times
    are Unix seconds of the file's last change.
    """

    paths: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    modified_after: float | None = None
    modified_before: float | None = None


class FileSubset(msgspec.Struct, frozen=True):
    """Files of a collection that are searched, where not all of it is. Paths are relative to its folder."""

    collection: str
    paths: frozenset[str]


class SearchScope(NamedTuple):
    """The collections that a search covers, None for all, and in some of them the only files that it covers."""

    collections: Sequence[str] | None
    chosen: Sequence[FileSubset] = ()


class Location(NamedTuple):
    """Where in a document that is not counted in lines: pages, slides, cells, messages, a sheet's rows. Numbers are
    the document's own, from 1, both ends in. `name` is the sheet's, where there is one."""

    unit: str
    first: int
    last: int
    name: str = ""

    @property
    def label(self) -> str:
        """For a person: `p. 3`, `slides 4–5`, `Budget, rows 2–40`."""
        one, many = _ABBREVIATED.get(self.unit, (self.unit, f"{self.unit}s"))
        where = f"{one} {self.first}" if self.first == self.last else f"{many} {self.first}–{self.last}"
        return f"{self.name}, {where}" if self.name else where

    def adjoins(self, other: "Location") -> bool:
        """Whether both can be told as one: numbers of the same kind in the same sheet."""
        return (self.unit, self.name) == (other.unit, other.name)


class Block(NamedTuple):
    """A run of a document's canonical text that belongs together: `text[start:end]`, characters.

    `heading` is the path of headings it stands under, outermost first; `section` counts headings, also those that read
    the same. `lead` is the span of the header of the table that this block is a row of, or the header of. `is_prose`: a
    line break after a full line says nothing.
    """

    start: int
    end: int
    heading: tuple[str, ...]
    section: int = 0
    place: Location | None = None
    lead: tuple[int, int] | None = None
    is_prose: bool = False


class Parsed(NamedTuple):
    """What a reader makes of a file: its canonical text, the blocks in it, and its title if it has one.

    For files that are text, the canonical text is the file's, line by line. `notes` say what could not be read of it.
    """

    text: str
    blocks: list[Block]
    title: str | None
    notes: tuple[str, ...] = ()


class Chunk(NamedTuple):
    """A citable piece of a document. `text` is `canonical[start:end]`, exactly; lines count from 1, both ends in.

    `lead` is the header of the table that the text goes on with, "" elsewhere: embedded, indexed and shown before it.
    """

    text: str
    heading: tuple[str, ...]
    start: int
    end: int
    line_from: int
    line_to: int
    place: Location | None = None
    lead: str = ""

    @property
    def shown(self) -> str:
        return with_lead(self.lead, self.text)


def with_lead(lead: str, text: str) -> str:
    """A table's header and the rows that follow it."""
    return f"{lead}\n{text}" if lead else text


class Evidence(msgspec.Struct, frozen=True):
    """What speaks for a passage, of one query: by how many standard deviations its cosine is above those of questions
    about anything (None without a vector), and the share of the query's words that it has."""

    z_score: float | None
    coverage: float


class Passage(msgspec.Struct, frozen=True):
    """A chunk that was found, with all a citation needs. `score` lies in 0..1; `similarity` is the cosine to the
    nearest query, None without a vector. `also_in`: other files, as collection/path, that say the same. `evidence` is
    of each query that was searched. `span`: the first and the last of the chunks it was merged of, if it was."""

    chunk_id: int
    document_id: int
    collection: str
    path: str  # relative to the collection's root, with /
    heading: tuple[str, ...]
    text: str
    line_from: int
    line_to: int
    score: float
    similarity: float | None = None
    place: Location | None = None
    lead: str = ""
    also_in: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    span: tuple[int, int] | None = None

    @property
    def file(self) -> str:
        """Return the collection and the path in it, or an upload's file name."""
        path = self.display_path
        return f"{self.collection}/{self.path}" if path == self.path else path

    @property
    def display_path(self) -> str:
        """Return the path in the collection, or an upload's file name."""
        return display_path(self.path)

    @property
    def shown(self) -> str:
        """The text under the header of the table it is of."""
        return with_lead(self.lead, self.text)

    @property
    def breadcrumb(self) -> tuple[str, ...]:
        """What comes after the path in a citation: the place, if the document is not counted in lines, and headings."""
        if self.place is None:
            return self.heading
        return (self.place.label, *(name for name in self.heading if name != self.place.name))
