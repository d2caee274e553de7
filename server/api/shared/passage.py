"""The wire fields of a passage, for every API that returns passages."""

from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec

from index.types import Passage
from server.http.links import passage_url
from server.rag.relevance import relevance

Wire = TypeVar("Wire", bound=msgspec.Struct)


def wire_passage(kind: type[Wire], passage: Passage, base_url: str, **own: Any) -> Wire:
    """Return a `kind` that has the passage's fields, as far as it declares them. `own` are the API's own fields, which
    take precedence."""
    fields = passage_fields(passage, base_url)
    declared = {name: fields[name] for name in kind.__struct_fields__ if name in fields}
    return kind(**{**declared, **own})


def passage_fields(passage: Passage, base_url: str) -> dict[str, Any]:
    """Return every field that the wire knows of a passage, by name. Scores are rounded; `lines` are a pair."""
    place, similarity, known_relevance = passage.place, passage.similarity, relevance(passage)
    return {
        "document_id": passage.document_id,
        "chunk_id": passage.chunk_id,
        "collection": passage.collection,
        "path": passage.display_path,
        "filename": PurePosixPath(passage.path).name,
        "heading": passage.heading,
        "text": passage.text_with_lead,
        "lines": (passage.line_from, passage.line_to),
        "place": place.label if place else None,
        "page": place.first if place and place.unit == "page" else None,
        "score": round(passage.score, 4),
        "similarity": None if similarity is None else round(similarity, 4),
        "relevance": None if known_relevance is None else round(known_relevance, 2),
        "also_in": passage.also_in,
        "url": passage_url(base_url, passage),
    }
