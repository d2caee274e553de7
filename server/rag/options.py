"""How a request wants its answer grounded."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from index.types import FileSubset, Filters


class Mode(StrEnum):
    """When the documents are searched: `AUTO` for a person's questions, `ALWAYS` also for what a client asks by
    itself; `NEVER` leaves the sources of earlier turns out as well."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class CitationStyle(StrEnum):
    """How an answer says where it is from: markers and a list of sources in the text, annotations beside it."""

    INLINE = "inline"
    ANNOTATIONS = "annotations"
    BOTH = "both"
    NONE = "none"


class RagOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`collections` None: all of them. `vector_stores`: these too, by their ids, and then None is no collection.
    `chosen`: of these collections only these files. `top_k` None: as the server is set. `filters` None: every file.
    `least_score`: passages below are left out, 0 to 1 (`relevance.scores`)."""

    collections: Sequence[str] | None = None
    vector_stores: Sequence[str] = ()
    chosen: Sequence[FileSubset] = ()
    top_k: int | None = None
    filters: Filters | None = None
    least_score: float = 0.0
    mode: Mode = Mode.AUTO
    citations: CitationStyle = CitationStyle.ANNOTATIONS
