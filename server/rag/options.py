"""Options of a request for the grounding of its answer."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from index.types import Filters


class Mode(StrEnum):
    """Conditions under which the documents are searched.

    AUTO: for a person's questions. ALWAYS: also for what a client asks by itself. NEVER: not at all, and the sources of
    earlier turns are left out as well.
    """

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class CitationStyle(StrEnum):
    """Places where an answer cites its sources.

    INLINE: by markers and a list of sources in the text. ANNOTATIONS: by markers, and annotations beside the text.
    """

    INLINE = "inline"
    ANNOTATIONS = "annotations"
    BOTH = "both"
    NONE = "none"


class RagOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one request.

    `collections` None: those of the model id. `vector_stores` are searched too, by their ids; with them, `collections`
    None is no collection. `top_k` None: as the server is set. `filters` None: every file. `least_score`: passages with
    a lower calibrated score, 0 to 1, are left out.
    """

    collections: Sequence[str] | None = None
    vector_stores: Sequence[str] = ()
    top_k: int | None = None
    filters: Filters | None = None
    least_score: float = 0.0
    mode: Mode = Mode.AUTO
    citations: CitationStyle = CitationStyle.ANNOTATIONS
