"""The MCP tools without the protocol."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from index.storage.records import DocumentExcerpt, ExcerptRange, StoredChunk
from index.types import Location, Passage
from server.api.mcp import tools
from server.errors import NotFound, RequestError
from server.observability.metrics import Metrics
from server.rag.memory import TurnMemory
from server.storage.sqlite.turns import SqliteTurnStore
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, FakeServices

RATES = "| City | Rate |\n| --- | --- |"
DOCUMENT = DocumentExcerpt(
    "policies",
    "rates.pdf",
    None,
    [
        StoredChunk(1, (), "All rates are per night.", 1, 1, Location("page", 1, 1), ""),
        StoredChunk(2, ("Rates", "Abroad"), "| Paris | 120 |", 2, 2, Location("page", 1, 1), RATES),
        StoredChunk(3, ("Rates", "Abroad"), "| Rome | 110 |", 3, 3, Location("page", 2, 2), RATES),
        StoredChunk(4, ("Rates", "Home"), "Ask first.", 4, 4, Location("page", 2, 2), ""),
    ],
    0,
    4,
)
TEXT = f"""[p. 1]

All rates are per night.

# Rates › Abroad

{RATES}
| Paris | 120 |

[p. 2]

| Rome | 110 |

# Rates › Home

Ask first."""


class FakeCatalog:
    """A catalog with `DOCUMENT` as number 7; records the requests for documents."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, ExcerptRange]] = []

    def read_document(self, document_id: int, range: ExcerptRange) -> DocumentExcerpt | None:
        self.reads.append((document_id, range))
        if range.chunks == (9, 9):
            return DOCUMENT._replace(chunks=[], has_range=False)
        return DOCUMENT if document_id == 7 else None


def call(folder: Path, name: str, passages: list[Passage], catalog: FakeCatalog | None = None, **arguments: Any) -> Any:
    with SqliteTurnStore(folder / "turns.sqlite3", 1_000) as turns:
        services = FakeServices(folder, ScriptedChatModel(), FakeIndex(passages), TurnMemory(turns), Metrics())
        services.catalog = cast(Any, catalog or FakeCatalog())
        return asyncio.run(tools.call(name, arguments, services, "http://here/"))


def fetch(folder: Path, id: Any, catalog: FakeCatalog | None = None) -> Any:
    return call(folder, "fetch", [], catalog, id=id)


@pytest.mark.parametrize(
    ("id", "range"),
    [("7", ExcerptRange()), ("7-3", ExcerptRange(chunks=(3, 3))), ("7@0", ExcerptRange(start=0))],
)
def test_fetch_returns_the_text_with_headings_and_locations(tmp_path: Path, id: str, range: ExcerptRange) -> None:
    """Write headings, places and tables' headers where they change."""
    catalog = FakeCatalog()
    document = fetch(tmp_path, id, catalog)
    assert catalog.reads == [(7, range)]
    assert (document.id, document.title, document.text, document.url) == (
        id,
        "policies/rates.pdf",
        TEXT,
        "http://here/documents/7",
    )
    assert (document.metadata.passages, document.metadata.next) == ("1–4 of 4", None)


def test_fetch_continues_behind_the_passages_already_read(tmp_path: Path) -> None:
    document = fetch(tmp_path, "7@3")
    assert (document.text, document.metadata.passages) == ("# Rates › Home\n\n[p. 2]\n\nAsk first.", "4–4 of 4")
    assert fetch(tmp_path, "7@4").metadata.passages == "none"


@pytest.mark.parametrize("id", ["", "7-", "7@", "-3", "7-3@1", "seven", "7 ", "٧", "9" * 19, 7, None])
def test_an_invalid_id_is_refused(tmp_path: Path, id: Any) -> None:
    with pytest.raises(RequestError):
        fetch(tmp_path, id)


@pytest.mark.parametrize("id", ["8", "7-9", "9" * 18])
def test_a_deleted_passage_asks_to_search_again(tmp_path: Path, id: str) -> None:
    with pytest.raises(NotFound, match="search again"):
        fetch(tmp_path, id)


def test_a_search_result_has_its_location(tmp_path: Path) -> None:
    passage = Passage(
        3, 7, "policies", "rates.pdf", ("Rates",), "| Rome |", 3, 3, 0.5, None, Location("page", 2, 2), "| City |"
    )
    (result,) = call(tmp_path, "search", [passage], query="rome", limit=1).results
    assert (result.id, result.title) == ("7-3", "policies/rates.pdf › p. 2 › Rates")
    assert (result.text, result.place, result.lines) == ("| City |\n| Rome |", "p. 2", (3, 3))
    assert result.url == "http://here/documents/7?chunk=3#chunk-3"


@pytest.mark.parametrize("arguments", [{}, {"query": ""}, {"query": 7}, {"query": "x", "limit": 51}])
def test_invalid_search_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        call(tmp_path, "search", [], **arguments)


def test_each_tool_has_its_own_types() -> None:
    assert list(tools.BY_NAME) == ["search", "fetch", "list_collections"]
    assert all(tool.description.endswith(".") for tool in tools.TOOLS)
