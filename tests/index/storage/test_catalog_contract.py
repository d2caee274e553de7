"""The contract of `Catalog`: its answers, and what a restricted one does not show."""

from pathlib import Path

import pytest

from index.storage.records import DOCUMENT_START, DocumentCount, ExcerptRange, FileStat
from index.types import Collection
from index.uploads import UPLOADS
from tests.index.storage.contract import Implementation, Storage

NUMBERS = range(250)


@pytest.fixture
def two_collections(storage: Storage) -> Storage:
    """Two collections, each with documents in every state."""
    for collection in storage.ids:
        storage.index_document(collection, "b.md", f"{collection} b", note="a picture")
        storage.index_document(collection, "sub/A_%.md", f"{collection} a", stat=FileStat(7, 1))
        storage.store.fail(storage.ids[collection], "c.pdf", FileStat(5, 1), f"{collection} is torn")
        storage.store.mark_pending(storage.ids[collection], [("d.md", FileStat(3, 1))])
    return storage


def test_everything_is_empty_before_the_store_is_made(implementation: Implementation, tmp_path: Path) -> None:
    for catalog in (implementation.open_catalog(tmp_path), implementation.open_catalog(tmp_path / "nowhere")):
        assert (catalog.status(), catalog.topic(), catalog.vector_space()) == ([], None, None)
        assert (catalog.find_document(1), catalog.read_document(1), catalog.read_texts(1)) == (None, None, [])
        assert catalog.list_documents("handbook") == catalog.list_documents_by_path("handbook", 9) == []
        assert catalog.count_documents("handbook") == []


def test_the_status_counts_the_documents_of_each_collection(two_collections: Storage) -> None:
    first, second = two_collections.catalog.status()
    assert (first.name, second.name) == ("handbook", "policies")
    assert (first.documents, first.bytes, first.chunks, first.pending, first.pending_bytes) == (2, 16, 2, 1, 3)
    assert [(each.path, each.reason) for each in first.failed] == [("c.pdf", "handbook is torn")]
    assert first.root == str(two_collections.roots["handbook"])


def test_documents_are_listed_in_the_order_they_were_first_seen(two_collections: Storage) -> None:
    documents = two_collections.catalog.list_documents("handbook")
    assert [document.path for document in documents] == ["b.md", "sub/A_%.md", "c.pdf", "d.md"]
    assert [document.was_indexed for document in documents] == [True, True, True, False]
    assert documents[0].note == "a picture"
    assert two_collections.catalog.list_documents("handbook", ["c.pdf", "none.md"]) == [documents[2]]
    assert two_collections.catalog.find_document(documents[2].id) == documents[2]


def test_documents_are_paged_by_path_state_and_a_part_of_the_path(two_collections: Storage) -> None:
    def paths(limit: int = 9, **conditions: str) -> list[str]:
        page = two_collections.catalog.list_documents_by_path("handbook", limit, **conditions)  # type: ignore[arg-type]
        return [document.path for document in page]

    assert paths() == ["b.md", "c.pdf", "d.md", "sub/A_%.md"]
    assert (paths(2), paths(after="c.pdf")) == (["b.md", "c.pdf"], ["d.md", "sub/A_%.md"])
    assert (paths(state="failed"), paths(contains="a_%"), paths(contains="x")) == (["c.pdf"], ["sub/A_%.md"], [])


def test_a_document_that_waits_to_be_read_again_counts_as_searchable(two_collections: Storage) -> None:
    two_collections.store.mark_pending(two_collections.ids["handbook"], [("b.md", FileStat(9, 2))])
    assert sorted(two_collections.catalog.count_documents("handbook")) == [
        DocumentCount("failed", False, 1, 5),
        DocumentCount("indexed", True, 1, 7),
        DocumentCount("pending", False, 1, 3),
        DocumentCount("pending", True, 1, 9),
    ]


def test_the_chunks_of_the_documents_asked_for_are_counted(two_collections: Storage) -> None:
    two_collections.index_document("handbook", "b.md", "one", "two")
    ids = {document.path: document.id for document in two_collections.catalog.list_documents("handbook")}
    assert two_collections.catalog.count_chunks([ids["b.md"], ids["c.pdf"], 999]) == {ids["b.md"]: 2}


@pytest.mark.parametrize(
    ("range", "start", "num_highlighted"),
    [
        (DOCUMENT_START, 0, 0),
        (ExcerptRange(lines=(101, 103)), 50, 3),
        (ExcerptRange(lines=(11, 11)), 0, 1),
        (ExcerptRange(start=30), 30, 0),
        (ExcerptRange(start=240), 50, 0),
    ],
)
def test_a_large_document_is_read_around_a_range(
    storage: Storage, range: ExcerptRange, start: int, num_highlighted: int
) -> None:
    storage.index_document("handbook", "long.md", *(f"line {number}" for number in NUMBERS))
    excerpt = storage.catalog.read_document(storage.document_id("handbook", "long.md"), range)
    assert excerpt is not None
    assert (excerpt.start, len(excerpt.chunks), excerpt.num_chunks) == (start, 200, len(NUMBERS))
    assert len(excerpt.highlighted) == num_highlighted
    assert excerpt.chunks[0].text == f"line {start}"


def test_a_range_that_the_document_does_not_have_is_said_to_be_missing(two_collections: Storage) -> None:
    id = two_collections.document_id("handbook", "b.md")
    for range in (ExcerptRange(lines=(7, 9)), ExcerptRange(chunks=(1_000, 1_001))):
        excerpt = two_collections.catalog.read_document(id, range)
        assert excerpt is not None
        assert (excerpt.has_range, excerpt.chunks, excerpt.num_chunks) == (False, [], 1)


def test_a_restricted_catalog_answers_as_if_there_were_no_other_collections(two_collections: Storage) -> None:
    catalog = two_collections.catalog.seen_by(frozenset({"handbook"}))
    other = two_collections.document_id("policies", "b.md")
    assert [status.name for status in catalog.status()] == ["handbook"]
    assert (catalog.find_document(other), catalog.read_document(other), catalog.read_texts(other)) == (None, None, [])
    assert catalog.list_documents("policies") == catalog.list_documents_by_path("policies", 9) == []
    assert (catalog.count_documents("policies"), catalog.count_chunks([other])) == ([], {})
    assert len(catalog.list_documents("handbook")) == 4
    assert catalog.read_texts(two_collections.document_id("handbook", "b.md")) == ["handbook b"]
    assert catalog.count_documents("handbook") == two_collections.catalog.count_documents("handbook")


def test_a_restricted_catalog_has_a_topic_of_its_own_collections_alone(storage: Storage) -> None:
    storage.index_document("policies", "b.md", "text")
    assert storage.catalog.topic() == "Part 1"
    assert storage.catalog.seen_by(frozenset({"handbook"})).topic() is None


def test_a_catalog_is_restricted_further_and_never_widened(two_collections: Storage) -> None:
    catalog = two_collections.catalog.seen_by(frozenset({"handbook"})).seen_by(frozenset({"handbook", "policies"}))
    assert [status.name for status in catalog.status()] == ["handbook"]
    assert [status.name for status in catalog.seen_by(None).status()] == ["handbook"]
    assert catalog.seen_by(frozenset()).status() == []
    assert [status.name for status in two_collections.catalog.seen_by(None).status()] == ["handbook", "policies"]


def test_uploads_are_in_an_unrestricted_catalog_alone_and_in_no_status(storage: Storage) -> None:
    folders = [Collection(name, root) for name, root in storage.roots.items()]
    storage.ids = storage.store.configure([*folders, Collection(UPLOADS, storage.roots["handbook"])])
    storage.index_document(UPLOADS, "auto/file-0123456789abcdef01234567/a.md", "uploaded")
    (document,) = storage.catalog.list_documents(UPLOADS)
    assert storage.catalog.read_texts(document.id) == ["uploaded"]
    assert [status.name for status in storage.catalog.status()] == ["handbook", "policies"]
    assert storage.catalog.topic() is None
    assert storage.catalog.seen_by(frozenset({"handbook", "policies"})).find_document(document.id) is None
