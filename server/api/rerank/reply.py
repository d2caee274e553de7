"""Reranking requests to texts, and scores to replies."""

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


def document_texts(asked: RerankRequest) -> list[str]:
    """Raises `RequestError`."""
    field = "documents" if asked.documents is not None or asked.texts is None else "texts"
    given = asked.texts if field == "texts" else asked.documents
    if given is None:
        raise RequestError("There are no documents; they are a list of texts.", field, "missing_required_parameter")
    if not given:
        raise RequestError("There are no documents to rank.", field, "invalid_value")
    return [_text_of(document, f"{field}[{index}]") for index, document in enumerate(given)]


def _text_of(document: str | DocumentText, path: str) -> str:
    text = document if isinstance(document, str) else document.text
    if text is None:
        raise RequestError("A document is a text, or has one in its field text.", f"{path}.text", "invalid_value")
    return text


def rerank_reply(asked: RerankRequest, texts: list[str], found: RerankingScores) -> RerankReply:
    with_documents = asked.return_documents is not False
    most = min(asked.top_n or asked.top_k or len(texts), len(texts))
    results = [
        RankedDocument(index, float(found.scores[index]), DocumentText(texts[index]) if with_documents else UNSET)
        for index in _best_first(found)[:most]
    ]
    return RerankReply(
        id=f"rerank-{uuid.uuid4().hex}",
        model=found.model,
        scorer=found.scorer,
        results=results,
        data=[msgspec.structs.replace(result, document=UNSET) for result in results],
        meta=RerankMeta(RerankTokens(found.num_tokens)),
        usage=RerankUsage(found.num_tokens, found.num_tokens),
    )


def tei_reply(asked: RerankRequest, texts: list[str], found: RerankingScores) -> list[TeiRank]:
    return [
        TeiRank(index, float(found.scores[index]), texts[index] if asked.return_text else UNSET)
        for index in _best_first(found)
    ]


def _best_first(found: RerankingScores) -> list[int]:
    """Of equal ones, the first first."""
    order: list[int] = np.argsort(-found.scores, kind="stable").tolist()
    return order
