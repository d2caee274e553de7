"""Files and vector stores through OpenAI's own client, against a real server."""

import io
import os
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI
from real_server import Server, serving, wait_until, write_handbook

from server.files.folders import folder_store_id

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

_SOUP = b"# Lunch\n\nThe canteen serves barley soup on Thursdays.\n"
_PARKING = b"# Parking\n\nBicycles stand in the green shed behind the canteen.\n"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("stores")
    with serving(
        folder, write_handbook(folder / "handbook"), environment={"CLOISTER_FILES__MAX_BYTES": "3000000"}
    ) as running:
        yield running


def _client(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", http_client=httpx.Client(trust_env=False), max_retries=0)


@pytest.fixture
def client(own_server: Server) -> Iterator[OpenAI]:
    with _client(own_server) as client:
        yield client


def _texts(client: OpenAI, store: str, query: str, **options: object) -> list[str]:
    results = client.vector_stores.search(store, query=query, **options)  # type: ignore[arg-type]
    return [part.text for result in results for part in result.content]


def test_an_upload_is_searched_in_its_vector_store_only(client: OpenAI, own_server: Server) -> None:
    store = client.vector_stores.create(name="Lunch", metadata={"team": "facilities"})
    assert (store.status, store.file_counts.total, store.name) == ("completed", 0, "Lunch")
    assert client.vector_stores.search(store.id, query="soup").data == []
    done = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("lunch.md", _SOUP))
    assert (done.status, done.last_error) == ("completed", None)
    other = client.vector_stores.create()
    client.vector_stores.files.upload_and_poll(vector_store_id=other.id, file=("parking.md", _PARKING))

    (result,) = client.vector_stores.search(store.id, query="What does the canteen serve?")
    assert result.content[0].text.endswith("The canteen serves barley soup on Thursdays.")
    assert (result.file_id, result.filename, result.attributes) == (done.id, "lunch.md", {})
    assert 0.5 < result.score <= 1
    assert _texts(client, other.id, "What does the canteen serve?")[0].startswith("Bicycles")
    irrelevant = client.vector_stores.search(
        store.id, query="How do volcanoes erupt?", ranking_options={"score_threshold": 0.5}
    )
    assert irrelevant.data == []
    answer = own_server.answer("What does the canteen serve on Thursdays?")
    assert "barley" not in answer, "an upload is no watched folder"
    assert client.vector_stores.retrieve(store.id).usage_bytes == len(_SOUP)
    page = httpx.get(str(result.model_extra["url"]), trust_env=False)  # type: ignore[index]
    assert page.status_code == 200 and "<title>lunch.md</title>" in page.text

    assert client.vector_stores.files.delete(done.id, vector_store_id=store.id).deleted
    assert client.vector_stores.search(store.id, query="soup").data == []
    assert client.files.retrieve(done.id).filename == "lunch.md"
    assert client.files.delete(done.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {done.id}"):
        client.files.retrieve(done.id)
    for id in (store.id, other.id):
        assert client.vector_stores.delete(id).deleted


def test_a_search_is_filtered_by_attributes(client: OpenAI) -> None:
    store = client.vector_stores.create()
    years = {}
    for year in range(2020, 2026):
        text = f"The committee met in the year and chose the colour number {year}.".encode()
        years[client.files.create(file=(f"{year}.txt", text), purpose="assistants").id] = year
    batch = client.vector_stores.file_batches.create_and_poll(
        store.id,
        files=[
            {"file_id": id, "attributes": {"year": year, "kind": "minutes", "is_final": year < 2025}}
            for id, year in years.items()
        ],
    )
    assert (batch.status, batch.file_counts.completed, batch.file_counts.total) == ("completed", 6, 6)

    def search_years(filters: object) -> set[int]:
        results = client.vector_stores.search(
            store.id,
            query="colour chosen by the committee",
            filters=filters,
            max_num_results=50,  # type: ignore[arg-type]
        )
        assert all(result.attributes and result.attributes["year"] == years[result.file_id] for result in results)
        return {years[result.file_id] for result in results}

    assert search_years(None) == set(range(2020, 2026))
    assert search_years({"type": "eq", "key": "year", "value": 2021}) == {2021}
    assert search_years({"type": "gte", "key": "year", "value": 2023.5}) == {2024, 2025}
    assert search_years({"type": "in", "key": "year", "value": [2020, 2022]}) == {2020, 2022}
    assert search_years({"type": "eq", "key": "missing", "value": 1}) == set()
    both = [{"type": "lt", "key": "year", "value": 2022}, {"type": "eq", "key": "is_final", "value": False}]
    assert search_years({"type": "or", "filters": both}) == {2020, 2021, 2025}
    assert search_years({"type": "and", "filters": both}) == set()

    first = next(iter(years))
    changed = client.vector_stores.files.update(first, vector_store_id=store.id, attributes={"year": 1999})
    assert changed.attributes == {"year": 1999}
    assert files_of_year(client, store.id, 1999) == [first]
    listing = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=4)
    assert len(listing.data) == 4 and len(list(listing)) == 6
    client.vector_stores.delete(store.id)


def files_of_year(client: OpenAI, store: str, year: int) -> list[str]:
    filters = {"type": "eq", "key": "year", "value": year}
    return [result.file_id for result in client.vector_stores.search(store, query="colour", filters=filters)]  # type: ignore[arg-type]


def test_files_are_uploaded_and_attached_as_a_batch(client: OpenAI) -> None:
    store = client.vector_stores.create()
    files = [(f"{color}.txt", f"The {color} bus goes to the harbour.".encode()) for color in ("red", "green", "blue")]
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files)
    assert (batch.status, batch.file_counts.completed) == ("completed", 3)
    results = client.vector_stores.search(store.id, query=["green bus", "bus that is green"]).data
    assert results[0].filename == "green.txt" and len(results) == 3
    client.vector_stores.delete(store.id)


def test_a_file_is_chunked_as_requested(client: OpenAI) -> None:
    text = " ".join(f"Sentence {number} is about subject {number % 7}." for number in range(400)).encode()
    file = client.files.create(file=("long.txt", text), purpose="user_data")
    store = client.vector_stores.create()
    static = {"type": "static", "static": {"max_chunk_size_tokens": 400, "chunk_overlap_tokens": 200}}
    done = client.vector_stores.files.create_and_poll(
        file.id,
        vector_store_id=store.id,
        chunking_strategy=static,  # type: ignore[arg-type]
    )
    assert done.chunking_strategy is not None and done.chunking_strategy.model_dump() == static
    parts = [part.text for part in client.vector_stores.files.content(file.id, vector_store_id=store.id)]
    assert 10 < len(parts) < 40
    for before, after in pairwise(parts):
        assert after and before and after.split(".")[0] in before, "each begins within the one before"
    client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
    assert len(list(client.vector_stores.files.content(file.id, vector_store_id=store.id))) > len(parts)
    client.vector_stores.delete(store.id)


def test_files_that_cannot_be_searched_have_an_error(client: OpenAI) -> None:
    store = client.vector_stores.create()
    odd = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.bin", b"\x00\x01"))
    assert (odd.status, odd.last_error and odd.last_error.code) == ("failed", "unsupported_file")
    broken = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.pdf", b"no pdf at all"))
    assert (broken.status, broken.last_error and broken.last_error.code) == ("failed", "invalid_file")
    assert client.vector_stores.retrieve(store.id).file_counts.failed == 2
    assert [file.id for file in client.vector_stores.files.list(store.id, filter="failed", order="asc")] == [
        odd.id,
        broken.id,
    ]
    client.vector_stores.delete(store.id)


def test_a_watched_folder_is_a_read_only_vector_store(client: OpenAI, own_server: Server) -> None:
    id = folder_store_id("handbook")
    wait_until(lambda: client.vector_stores.retrieve(id).status == "completed", what="an indexed folder")
    store = client.vector_stores.retrieve(id)
    assert (store.name, store.metadata) == ("handbook", {"path": str(own_server.docs)})
    assert store.file_counts.completed == 3 and id in [each.id for each in client.vector_stores.list()]
    best = client.vector_stores.search(id, query="How long is parental leave?").data[0]
    assert best.filename == "leave.md" and best.attributes is not None and best.attributes["path"] == "leave.md"
    assert client.files.content(best.file_id).read() == (own_server.docs / "leave.md").read_bytes()
    assert client.vector_stores.files.retrieve(best.file_id, vector_store_id=id).status == "completed"
    assert all(
        result.attributes
        == {"path": "travel.md", "modified_at": result.attributes and result.attributes["modified_at"]}
        for result in client.vector_stores.search(
            id, query="How long is parental leave?", filters={"type": "eq", "key": "path", "value": "travel.md"}
        )
    )
    upload = client.files.create(file=("a.md", b"a"), purpose="assistants")
    for refused_call in (
        lambda: client.vector_stores.delete(id),
        lambda: client.vector_stores.update(id, name="mine"),
        lambda: client.vector_stores.files.create(id, file_id=upload.id),
        lambda: client.vector_stores.files.delete(best.file_id, vector_store_id=id),
        lambda: client.files.delete(best.file_id),
        lambda: client.vector_stores.file_batches.create(id, file_ids=[upload.id]),
    ):
        with pytest.raises(openai.PermissionDeniedError, match="watched folder 'handbook'"):
            refused_call()


def test_an_upload_over_the_limit_is_refused_and_not_kept(client: OpenAI, own_server: Server) -> None:
    before = {file.id for file in client.files.list()}
    with pytest.raises(openai.APIStatusError) as refusal:
        client.files.create(file=("large.txt", b"x" * 3_000_001), purpose="assistants")
    assert (refusal.value.status_code, refusal.value.code) == (413, "file_too_large")
    assert {file.id for file in client.files.list()} == before
    stored = client.files.create(file=("large.txt", b"x" * 3_000_000), purpose="batch")
    assert client.files.content(stored.id).read() == b"x" * 3_000_000
    assert [file.id for file in client.files.list(purpose="batch")] == [stored.id]
    client.files.delete(stored.id)
    assert not any((own_server.log.parent / "data" / "files" / ".incoming").iterdir())


def test_a_cancelled_file_batch_leaves_out_files_that_are_not_indexed(client: OpenAI, own_server: Server) -> None:
    with own_server.client() as http:
        http.post("/v1/index/pause")
        try:
            wait_until(lambda: http.get("/v1/index/status").json()["activity"] == "paused", what="a pause")
            store = client.vector_stores.create()
            ids = [client.files.create(file=(f"{i}.txt", b"never read"), purpose="assistants").id for i in range(3)]
            batch = client.vector_stores.file_batches.create(store.id, file_ids=ids)
            assert (batch.status, batch.file_counts.in_progress) == ("in_progress", 3)
            batch = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
            assert (batch.status, batch.file_counts.cancelled, batch.file_counts.in_progress) == ("cancelled", 3, 0)
        finally:
            http.post("/v1/index/resume")
    assert client.vector_stores.retrieve(store.id).status == "completed"
    client.vector_stores.delete(store.id)


def test_a_killed_server_has_every_acknowledged_file_once(tmp_path: Path) -> None:
    """A hundred files are uploaded and attached to a store by four clients; the server is killed in the middle."""
    acknowledged: dict[str, bytes] = {}
    attached: list[str] = []
    docs = write_handbook(tmp_path / "handbook")
    with serving(tmp_path, docs) as server:
        client = _client(server)
        store = client.vector_stores.create(name="all")

        def upload(worker: int) -> None:
            for number in range(worker, 100, 4):
                content = f"Item {number}: the secret word is {'abcdefghij'[number % 10] * 5}{number}.".encode() * 20
                try:
                    file = client.files.create(file=(f"{number}.txt", io.BytesIO(content)), purpose="assistants")
                    acknowledged[file.id] = content
                    client.vector_stores.files.create(store.id, file_id=file.id)
                    attached.append(file.id)
                except openai.APIConnectionError:
                    return

        workers = [threading.Thread(target=upload, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        wait_until(lambda: len(attached) >= 50, 60, "half of the files")
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        for worker in workers:
            worker.join()
        client.close()
    assert 50 <= len(acknowledged) < 100
    data = tmp_path / "data"
    (data / "files" / ".incoming" / "torn").write_bytes(b"half a file")
    with serving(tmp_path, docs) as server, _client(server) as client:
        listing = [file.id for file in client.files.list()]
        assert len(listing) == len(set(listing)) <= len(acknowledged) + 4, "one that no answer came of, for each client"
        assert acknowledged.keys() <= set(listing)
        assert all(client.files.content(id).read() == content for id, content in acknowledged.items())
        on_disk = {path.name for path in (data / "files").iterdir()}
        assert on_disk == {*listing, ".incoming"} and not any((data / "files" / ".incoming").iterdir())
        attached_ids = [file.id for file in client.vector_stores.files.list(store.id, limit=100)]
        assert len(attached_ids) == len(set(attached_ids)) and set(attached) <= set(attached_ids)
        wait_until(
            lambda: client.vector_stores.retrieve(store.id).file_counts.completed == len(attached_ids),
            60,
            "all indexed",
        )
        results = client.vector_stores.search(store.id, query="the secret word", max_num_results=50).data
        assert {result.file_id for result in results} <= set(attached_ids)
        name = int(client.files.retrieve(attached[7]).filename.removesuffix(".txt"))
        best = client.vector_stores.search(store.id, query=f"Item {name}: the secret word", max_num_results=50)
        assert attached[7] in [result.file_id for result in best]
