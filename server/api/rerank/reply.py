"""Reranking requests as texts, and scores as replies."""

import uuid

import msgspec
import numpy as np
from msgspec import UNSET

from server.api.rerank.wire import (
    DocumentText,
    RankedDocument,
    RerankMeta,
    RerankReply,
    RerankRequest,
    RerankTokens,
    RerankUsage,
    TeiRank,
)
from server.errors import RequestError
from server.resources.reranking import RerankingScores


def document_texts(data: RerankRequest) -> list[str]:
    """Return the texts of the documents. Raises `RequestError`."""
    field = "documents" if data.documents is not None or data.texts is None else "texts"
    documents = data.texts if field == "texts" else data.documents
    if documents is None:
        raise RequestError("The documents are missing; send a list of texts.", field, "missing_required_parameter")
    if not documents:
        raise RequestError("The documents are empty; send at least one.", field, "invalid_value")
    return [_text_of(document, f"{field}[{index}]") for index, document in enumerate(documents)]


def _text_of(document: str | DocumentText, path: str) -> str:
    text = document if isinstance(document, str) else document.text
    if text is None:
        raise RequestError("A document is a text, or has one in its field `text`.", f"{path}.text", "invalid_value")
    return text


def rerank_reply(data: RerankRequest, texts: list[str], scores: RerankingScores) -> RerankReply:
    with_documents = data.return_documents is not False
    num_results = min(data.top_n or data.top_k or len(texts), len(texts))
    results = [
        RankedDocument(index, float(scores.scores[index]), DocumentText(texts[index]) if with_documents else UNSET)
        for index in _best_first(scores)[:num_results]
    ]
    return RerankReply(
        id=f"rerank-{uuid.uuid4().hex}",
        model=scores.model,
        scorer=scores.scorer,
        results=results,
        data=[msgspec.structs.replace(result, document=UNSET) for result in results],
        meta=RerankMeta(RerankTokens(scores.num_tokens)),
        usage=RerankUsage(scores.num_tokens, scores.num_tokens),
    )


def tei_reply(data: RerankRequest, texts: list[str], scores: RerankingScores) -> list[TeiRank]:
    return [
        TeiRank(index, float(scores.scores[index]), texts[index] if data.return_text else UNSET)
        for index in _best_first(scores)
    ]


def _best_first(scores: RerankingScores) -> list[int]:
    """Return the indexes by descending score; equal scores keep their order."""
    indexes: list[int] = np.argsort(-scores.scores, kind="stable").tolist()
    return indexes
