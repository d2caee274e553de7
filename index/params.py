"""The parameters of indexing and search, apart from what carries them out."""

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

CHUNK_TOKENS = 128  # used where neither the settings nor the embedding model name a size
DENSE_WEIGHT = 0.5  # of a convex combination; .4 to .6 measured alike (docs/architecture.md, Search)

_MIN_CHUNK_TOKENS = 16  # a single character can take several tokens


class Chunking(NamedTuple):
    """Chunks of at most `size` tokens, each beginning with at most `overlap` tokens of the one before."""

    size: int
    overlap: int


class IndexingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the folders are watched, cut into chunks and embedded."""

    settle_s: Annotated[
        float, Meta(ge=0, le=60, description="seconds for which a file must be unchanged before it is read")
    ] = 0.4
    scan_interval_s: Annotated[
        float, Meta(gt=0, description="seconds between full scans; large folders are scanned less often")
    ] = 60
    watch: Annotated[
        Literal["auto", "events", "poll"],
        Meta(description="how changes are detected: events, poll or auto (poll on network file systems)"),
    ] = "auto"
    hold_deletions_s: Annotated[
        float,
        Meta(ge=0, description="seconds for which documents are kept when most files of a folder disappear at once"),
    ] = 3600
    max_bytes: Annotated[int, Meta(gt=0, description="largest file that is read, in bytes")] = 20_000_000
    chunk_tokens: Annotated[
        int, Meta(ge=0, le=8192, description="chunk size in tokens; 0: chosen for the embedding model")
    ] = 0
    num_threads: Annotated[int, Meta(ge=1, le=1024, description="threads that embed documents")] = 1

    def __post_init__(self) -> None:
        if 0 < self.chunk_tokens < _MIN_CHUNK_TOKENS:
            raise ValueError(f"chunk_tokens must be 0 or at least {_MIN_CHUNK_TOKENS}")
