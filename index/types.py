"""The types that all rooms of the index share: a document is cut into chunks, and a chunk that is found is a passage.

`DocumentEmbedder` and `Reranker` are what the index needs of a model; it imports none.
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
else:  # the sandbox of the readers does without numpy and its threads
    Vectors = Scores = Ids = Any

Hits = list[tuple[int, float]]  # chunk id and score, best first

_ABBREVIATED = {"page": ("p.", "pp."), "sheet": ("row", "rows")}  # labels of the other units are their names


class DocumentEmbedder(Protocol):
    """The embedder of the indexer. Vectors are comparable if the fingerprints of their embedders are equal."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int: ...
    def embed_documents(self, texts: Sequence[str]) -> Vectors: ...


class Reranker(Protocol):
    """A model that scores passages by reading them with the question. Higher is better; the scale is the model's."""

    async def rerank(self, query: str, texts: Sequence[str]) -> Scores: ...


def is_managed(collection: str) -> bool:
    """Return whether this collection is managed, see `Collection`. No watched folder's name begins with a dot."""
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
    """One wording of a question, and its weight beside the other wordings."""

    text: str
    weight: float = 1.0


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions that the files of a search must meet; a field that is not set is none.

    `paths` are patterns in the syntax of `.gitignore`, relative to the collection's folder. A file passes that matches
    one of those without `!`, if there are any, and none of those with `!`. `kinds` are endings of names: `pdf`, `.md`.
    Times are Unix seconds of the file's last change.
    """

    paths: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    modified_after: float | None = None
    modified_before: float | None = None


class FileSubset(msgspec.Struct, frozen=True):
    """The files of a collection that a search covers. Paths are relative to its folder."""

    collection: str
    paths: frozenset[str]


class SearchScope(NamedTuple):
    """The collections that a search covers, None for all, and in some of them the only files that it covers."""

    collections: Sequence[str] | None
    subsets: Sequence[FileSubset] = ()


class Location(NamedTuple):
    """A range of pages, slides, cells, messages or a sheet's rows, in a document that has no lines.

    Numbers are the document's own, from 1, both ends included. `name` is that of the sheet, where there is one.
    """

    unit: str
    first: int
    last: int
    name: str = ""

    @property
    def label(self) -> str:
        """Return the range as people write it: `p. 3`, `slides 4–5`, `Budget, rows 2–40`."""
        one, many = _ABBREVIATED.get(self.unit, (self.unit, f"{self.unit}s"))
        numbers = f"{one} {self.first}" if self.first == self.last else f"{many} {self.first}–{self.last}"
        return f"{self.name}, {numbers}" if self.name else numbers

    def adjoins(self, other: "Location") -> bool:
        """Return whether both can be merged into one range: their unit and their sheet are the same."""
        return (self.unit, self.name) == (other.unit, other.name)


class Block(NamedTuple):
    """A paragraph, list, row or the like of a document: `text[start:end]` of its canonical text, in characters.

    `heading` is the path of headings above it, outermost first; `section` counts headings, since two can read the same.
    `lead` is the span of the header of the table that the block belongs to. `is_prose`: lines are wrapped, so a line
    break after a full line has no meaning.
    """

    start: int
    end: int
    heading: tuple[str, ...]
    section: int = 0
    place: Location | None = None
    lead: tuple[int, int] | None = None
    is_prose: bool = False


class ParsedDocument(NamedTuple):
    """A file as its reader returns it: its canonical text, the blocks in it, and its title if it has one.

    The canonical text of a text file is the file's, line by line. `notes` say what of the file could not be read.
    """

    text: str
    blocks: list[Block]
    title: str | None
    notes: tuple[str, ...] = ()


class Chunk(NamedTuple):
    """A citable piece of a document. `text` is `canonical[start:end]`; lines count from 1, both ends included.

    `lead` is the header of the table that the text begins within, or "". It is embedded, indexed and shown before it.
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
    def text_with_lead(self) -> str:
        return with_lead(self.lead, self.text)


def with_lead(lead: str, text: str) -> str:
    """Return the text under the header of its table."""
    return f"{lead}\n{text}" if lead else text


class Evidence(msgspec.Struct, frozen=True):
    """The evidence that a passage is relevant to one query."""

    z_score: float | None  # of its cosine among those of unrelated questions; None without a vector
    coverage: float  # share of the query's words that the passage has


class Passage(msgspec.Struct, frozen=True):
    """A chunk that a search returns, with all that a citation needs."""

    chunk_id: int
    document_id: int
    collection: str
    path: str  # relative to the collection's root, with /
    heading: tuple[str, ...]
    text: str
    line_from: int
    line_to: int
    score: float  # 0..1
    similarity: float | None = None  # cosine to the nearest query; None without a vector
    place: Location | None = None
    lead: str = ""
    also_in: tuple[str, ...] = ()  # other files that say the same, as collection/path
    evidence: tuple[Evidence, ...] = ()  # one a query
    span: tuple[int, int] | None = None  # of a passage merged of several chunks: the ids of the first and the last

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
    def text_with_lead(self) -> str:
        return with_lead(self.lead, self.text)

    @property
    def breadcrumb(self) -> tuple[str, ...]:
        """Return what follows the path in a citation: the location, in a document without lines, and the headings."""
        if self.place is None:
            return self.heading
        return (self.place.label, *(name for name in self.heading if name != self.place.name))
