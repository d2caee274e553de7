"""The fields of a passage as every API that returns passages writes them."""

from pathlib import PurePosixPath
from typing import Self

import msgspec

from index.types import Passage
from server.http.links import passage_url
from server.rag.relevance import relevance


class PassageFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields from which the wire types of passages are made. Scores are rounded; `lines` are first and last line.

    `place` is the page, slide or rows, None where `lines` say it; `page` is the first page, as a number.
    """

    document_id: int
    chunk_id: int
    collection: str
    path: str
    filename: str
    heading: tuple[str, ...]
    text: str
    lines: tuple[int, int]
    place: str | None
    page: int | None
    score: float
    similarity: float | None
    relevance: float | None
    also_in: tuple[str, ...]
    url: str

    @classmethod
    def of(cls, passage: Passage, base_url: str) -> Self:
        place, similarity, known_relevance = passage.place, passage.similarity, relevance(passage)
        return cls(
            document_id=passage.document_id,
            chunk_id=passage.chunk_id,
            collection=passage.collection,
            path=passage.display_path,
            filename=PurePosixPath(passage.path).name,
            heading=passage.heading,
            text=passage.text_with_lead,
            lines=(passage.line_from, passage.line_to),
            place=place.label if place else None,
            page=place.first if place and place.unit == "page" else None,
            score=round(passage.score, 4),
            similarity=None if similarity is None else round(similarity, 4),
            relevance=None if known_relevance is None else round(known_relevance, 2),
            also_in=passage.also_in,
            url=passage_url(base_url, passage),
        )
