"""POST /v1/rerank on the wire: the fields that Cohere, Jina, vLLM, Voyage and TEI share, and their own."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.resources.reranking import Scorer

MAX_DOCUMENTS = 2048  # of one request


class DocumentText(msgspec.Struct, frozen=True):
    text: str | None = None


_Documents = Annotated[list[str | DocumentText], Meta(max_length=MAX_DOCUMENTS)]
_Count = Annotated[int, Meta(ge=1)]


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Documents to rank. `texts` is TEI's name of `documents`, and selects TEI's reply; `top_k` is Voyage's `top_n`."""

    query: Annotated[str, Meta(min_length=1)]
    documents: _Documents | None = None
    texts: _Documents | None = None
    model: str | None = None
    top_n: _Count | None = None
    top_k: _Count | None = None
    return_documents: bool | None = None
    return_text: bool | None = None


class RankedDocument(msgspec.Struct, frozen=True):
    """A result. `index` counts the documents of the request from 0."""

    index: int
    relevance_score: float
    document: DocumentText | UnsetType = UNSET


class ApiVersion(msgspec.Struct, frozen=True):
    version: Literal["2"] = "2"


class BilledUnits(msgspec.Struct, frozen=True):
    search_units: int = 1


class RerankTokens(msgspec.Struct, frozen=True):
    input_tokens: int


class RerankMeta(msgspec.Struct, frozen=True):
    tokens: RerankTokens
    api_version: ApiVersion = ApiVersion()
    billed_units: BilledUnits = BilledUnits()


class RerankUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class RerankReply(msgspec.Struct, frozen=True):
    """The results, best first. `data` repeats them for Voyage's clients. `scorer` says whether `model` reads query and
    document together or compares their vectors."""

    id: str
    model: str
    scorer: Scorer
    results: list[RankedDocument]
    data: list[RankedDocument]
    meta: RerankMeta
    usage: RerankUsage
    object: Literal["list"] = "list"


class TeiRank(msgspec.Struct, frozen=True):
    index: int
    score: float
    text: str | UnsetType = UNSET
