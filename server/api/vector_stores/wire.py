"""Wire types of /v1/vector_stores, as OpenAI defines them.

Unknown fields are ignored and null means absent.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

_Key = Annotated[str, Meta(max_length=64)]
_Text = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[_Key, _Text], Meta(max_length=16)]
AttributeMap = Annotated[dict[_Key, _Text | bool | int | float], Meta(max_length=16)]
_Name = Annotated[str, Meta(max_length=256)]
_Description = Annotated[str, Meta(max_length=2000)]
_FileIds = Annotated[list[str], Meta(max_length=500)]


class StaticSizes(msgspec.Struct, frozen=True):
    """Sizes in tokens of the embedding model. The overlap is at most half of the size."""

    max_chunk_size_tokens: int
    chunk_overlap_tokens: int


class ChunkingRequest(msgspec.Struct, frozen=True):
    type: str
    static: StaticSizes | None = None


class ChunkingStrategy(msgspec.Struct, frozen=True):
    static: StaticSizes
    type: Literal["static"] = "static"


class StoreExpiry(msgspec.Struct, frozen=True):
    days: Annotated[int, Meta(ge=1, le=365)]
    anchor: Literal["last_active_at"] = "last_active_at"


class CreateStore(msgspec.Struct, frozen=True):
    name: _Name | None = None
    description: _Description | None = None
    file_ids: _FileIds | None = None
    expires_after: StoreExpiry | None = None
    chunking_strategy: ChunkingRequest | None = None
    metadata: Metadata | None = None


class ChangeStore(msgspec.Struct, frozen=True):
    """Fields to change. With `expires_after` null the store never expires."""

    name: _Name | None = None
    description: _Description | None = None
    expires_after: StoreExpiry | UnsetType | None = UNSET
    metadata: Metadata | None = None


class FileCounts(msgspec.Struct, frozen=True):
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class VectorStore(msgspec.Struct, frozen=True):
    id: str
    created_at: int
    name: str
    description: str | None
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["in_progress", "completed", "expired"]
    expires_after: StoreExpiry | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]
    object: Literal["vector_store"] = "vector_store"


class StorePage(msgspec.Struct, frozen=True):
    data: list[VectorStore]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class StoreDeleted(msgspec.Struct, frozen=True):
    id: str
    deleted: bool = True
    object: Literal["vector_store.deleted"] = "vector_store.deleted"


class AddFile(msgspec.Struct, frozen=True):
    file_id: str
    attributes: AttributeMap | None = None
    chunking_strategy: ChunkingRequest | None = None


class ChangeFile(msgspec.Struct, frozen=True):
    attributes: AttributeMap | None = None


class LastError(msgspec.Struct, frozen=True):
    code: str
    message: str


class StoreFile(msgspec.Struct, frozen=True):
    """A file of a store. `chunking_strategy` is how it is chunked, also where that was left open."""

    id: str
    usage_bytes: int
    created_at: int
    vector_store_id: str
    status: str
    last_error: LastError | None
    chunking_strategy: ChunkingStrategy
    attributes: dict[str, Any]
    object: Literal["vector_store.file"] = "vector_store.file"


class StoreFilePage(msgspec.Struct, frozen=True):
    data: list[StoreFile]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class StoreFileDeleted(msgspec.Struct, frozen=True):
    id: str
    deleted: bool = True
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"


class ContentPart(msgspec.Struct, frozen=True):
    text: str
    type: Literal["text"] = "text"


class ContentPage(msgspec.Struct, frozen=True):
    data: list[ContentPart]
    has_more: bool = False
    next_page: str | None = None
    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"


class BatchRequest(msgspec.Struct, frozen=True):
    """Either `files`, or `file_ids` with the attributes and chunking of the batch."""

    file_ids: _FileIds | None = None
    files: Annotated[list[AddFile], Meta(max_length=500)] | None = None
    attributes: AttributeMap | None = None
    chunking_strategy: ChunkingRequest | None = None


class FileBatch(msgspec.Struct, frozen=True):
    id: str
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled"]
    file_counts: FileCounts
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"


class FilterRequest(msgspec.Struct, frozen=True):
    """A comparison of the attribute `key`, `eq` to `nin`; or `filters` joined by `and` or `or`."""

    type: str
    key: _Key | None = None
    value: Any = None
    filters: Annotated[list["FilterRequest"], Meta(max_length=100)] | None = None


class RankingOptions(msgspec.Struct, frozen=True):
    """Options of the ranking. There is one ranker, whatever name is given."""

    ranker: str | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


_Query = Annotated[str, Meta(min_length=1, max_length=100_000)]


class StoreSearch(msgspec.Struct, frozen=True):
    query: _Query | Annotated[list[_Query], Meta(min_length=1, max_length=16)]
    filters: FilterRequest | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None


class StoreResult(msgspec.Struct, frozen=True):
    """A passage. `place`, `lines`, `heading`, `chunk_id` and `url` are Cloister's own: where in the file it is."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Any]
    content: list[ContentPart]
    chunk_id: int
    heading: tuple[str, ...]
    lines: tuple[int, int]
    place: str | None
    url: str


class StoreResults(msgspec.Struct, frozen=True):
    search_query: list[str]
    data: list[StoreResult]
    has_more: bool = False
    next_page: str | None = None
    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
