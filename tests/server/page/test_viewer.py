"""GET /documents/{id} over HTTP: the cited passage in its document, and no markup from a document."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from litestar.testing import TestClient

from index.ingest.store import open_document_store
from index.storage.records import FileStat
from index.storage.sqlite.document_store import SqliteDocumentStore
from index.types import Chunk, Collection, Location, Passage
from server.http.links import passage_url
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

HOSTILE = '<script>alert(1)</script> <img src=x onerror="alert(2)"> \'"&amp;</pre></section> \0 \u202e \ud800'
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Documents:
    """Indexed documents, and a client that views them."""

    def __init__(self, client: TestClient[Any], writer: SqliteDocumentStore, collection_id: int) -> None:
        self.client = client
        self.writer = writer
        self.collection_id = collection_id

    def index_document(self, path: str, *chunks: Chunk, note: str | None = None) -> int:
        self.writer.replace(self.collection_id, path, FileStat(1, 1), "hash", None, chunks, note)
        ((document_id,),) = self.writer.connection.execute("SELECT id FROM documents WHERE path = ?", (path,))
        return int(document_id)

    def chunk_ids(self, document_id: int) -> list[int]:
        rows = self.writer.connection.execute("SELECT id FROM chunks WHERE document_id = ? ORDER BY 1", (document_id,))
        return [id for (id,) in rows]

    def get(self, document_id: object, query: str = "", headers: dict[str, str] | None = None) -> Any:
        return self.client.get(f"/documents/{document_id}{query}", headers=headers or {})


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[Documents]:
    writer = open_document_store(tmp_path)
    ids = writer.configure([Collection("handbook", tmp_path)])
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as client:
        yield Documents(client, writer, ids["handbook"])
    writer.close()


def chunk(
    text: str, line: int = 1, heading: tuple[str, ...] = (), place: Location | None = None, lead: str = ""
) -> Chunk:
    return Chunk(text, heading, 0, len(text), line, line + text.count("\n"), place, lead)


class Tags(HTMLParser):
    """Collects all tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.all_tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.all_tags.append((tag, dict(attributes)))


def cited_chunks(page: str) -> list[str]:
    return re.findall(r'<section id="chunk-(\d+)" class="cited">', page)


def test_the_cited_passage_is_marked_with_its_place_and_links_beside_it(documents: Documents) -> None:
    place = Location("page", 3, 4)
    id = documents.index_document(
        "a.pdf", chunk("one"), chunk("two", 2, ("Leave", "Sick"), place), chunk("three", 3), note="p. 9"
    )
    first, second, third = documents.chunk_ids(id)
    page = documents.get(id, f"?chunk={second}").text
    assert cited_chunks(page) == [str(second)]
    assert "Leave › Sick › pp. 3–4" in page
    assert "Not read: p. 9." in page
    assert f'<a href="?chunk={first}#chunk-{first}">Previous passage</a>' in page
    assert f'<a href="?chunk={third}#chunk-{third}">Next passage</a>' in page
    assert [text in page for text in ("one", "two", "three", "handbook/a.pdf")] == [True] * 4
    assert cited_chunks(documents.get(id).text) == []


def test_passages_that_were_merged_are_marked_together(documents: Documents) -> None:
    id = documents.index_document(
        "a.md", *(chunk(text, at) for at, text in enumerate(("one", "two", "three", "four"), 1))
    )
    ids = documents.chunk_ids(id)
    passage = Passage(ids[2], id, "handbook", "a.md", (), "two\nthree", 2, 3, 1.0, span=(ids[1], ids[2]))
    url = urlsplit(passage_url("http://here/", passage))
    assert url.fragment == f"chunk-{ids[1]}"
    assert cited_chunks(documents.get(id, f"?{url.query}").text) == [str(ids[1]), str(ids[2])]
    assert cited_chunks(documents.get(id, f"?chunk={ids[3]}&through={ids[3]}").text) == [str(ids[3])]
    assert documents.get(id, f"?chunk={ids[0]}&through={ids[3] + 99}").status_code == 404


def test_a_range_of_lines_is_highlighted(documents: Documents) -> None:
    id = documents.index_document("a.md", chunk("one\ntwo", 1), chunk("three", 3), chunk("four", 9))
    ids = list(map(str, documents.chunk_ids(id)))
    assert cited_chunks(documents.get(id, "?lines=2-3").text) == ids[:2]
    assert cited_chunks(documents.get(id, "?lines=9").text) == ids[2:]
    assert documents.get(id, "?lines=5-6").status_code == 404
    assert documents.get(id, "?lines=b").json()["error"]["param"] == "lines"


def test_a_large_document_shows_a_window_and_the_way_to_the_rest(documents: Documents) -> None:
    id = documents.index_document("big.md", *(chunk(f"passage {number}.", number) for number in range(1000)))
    ids = documents.chunk_ids(id)
    page = documents.get(id, f"?chunk={ids[500]}").text
    assert cited_chunks(page) == [str(ids[500])]
    assert page.count("<section") == 200
    assert "passage 480." in page
    assert "passage 479." not in page
    passages, query = set[str](), ""
    for _ in range(5):
        page = documents.get(id, query).text
        passages |= set(re.findall(r"passage \d+\.", page))
        later = re.search(r'href="(\?at=\d+)">Later', page)
        query = later[1] if later else ""
    assert len(passages) == 1000
    assert not query
    assert 'href="?at=600">Earlier' in page
    assert documents.get(id, "?at=99999").text.count("<section") == 200


@pytest.mark.parametrize("headers", [BROWSER, {"Accept": "*/*"}])
def test_deleted_and_changed_documents_say_so(documents: Documents, headers: dict[str, str]) -> None:
    id = documents.index_document("a.md", chunk("one"))
    (old,) = documents.chunk_ids(id)
    documents.index_document("a.md", chunk("other"))
    changed = documents.get(id, f"?chunk={old}", headers)
    gone = documents.get(id + 99, f"?chunk={old}", headers)
    assert (changed.status_code, gone.status_code) == (404, 404)
    if headers is BROWSER:
        assert f'<a href="/documents/{id}">' in changed.text
        assert "has changed" in changed.text
        assert "not in the index" in gone.text
        assert "default-src 'none'" in gone.headers["content-security-policy"]
    else:
        assert "passage" in changed.json()["error"]["message"]
        assert changed.json()["error"]["code"] == gone.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("query", ["?chunk=-1", "?chunk=x", f"?chunk={2**70}", "?at=-1", f"?lines={9**30}"])
def test_an_invalid_range_is_refused(documents: Documents, query: str) -> None:
    id = documents.index_document("a.md", chunk("one"))
    assert documents.get(id, query).status_code == 400
    assert documents.get(2**70).status_code == 404


def test_nothing_of_a_document_becomes_markup(documents: Documents) -> None:
    hostile = HOSTILE.replace("\ud800", "")
    place = Location("sheet", 1, 2, hostile)
    id = documents.index_document(
        f"{hostile.replace(chr(0), '')}.md", chunk(hostile, 1, (hostile,), place, hostile), note=hostile
    )
    (only,) = documents.chunk_ids(id)
    response = documents.get(id, f"?chunk={only}")
    assert response.status_code == 200
    tags = Tags(response.text).all_tags
    allowed_tags = {"html", "meta", "title", "style", "h1", "p", "nav", "section", "small", "a", "pre"}
    assert {tag for tag, _ in tags} <= allowed_tags
    assert {name for _, attributes in tags for name in attributes} <= {
        "lang", "charset", "name", "content", "class", "id", "href", "dir"
    }  # fmt: skip
    assert all(re.match(r"\?|/documents/", attributes["href"] or "") for tag, attributes in tags if tag == "a")
    assert "\0" not in response.text


def test_the_policy_allows_the_one_stylesheet_and_nothing_else(documents: Documents) -> None:
    response = documents.get(documents.index_document("a.md", chunk("one")))
    (style,) = re.findall(r"<style>(.*?)</style>", response.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = response.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
