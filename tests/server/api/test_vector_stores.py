"""Files and vector stores over HTTP, with a fake index: replies, refusals, and the scope of searches."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from index.types import Evidence, FileSubset, Passage
from index.uploads import UPLOADS
from server.files.folders import folder_file_id, folder_store_id
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

UNKNOWN_FILE = "file-" + "a" * 24


@pytest.fixture
def index() -> FakeIndex:
    return FakeIndex([])


@pytest.fixture
def http(tmp_path: Path, index: FakeIndex) -> Iterator[TestClient[Any]]:
    with serving(tmp_path, ScriptedChatModel(), index) as client:
        yield client


def upload(http: TestClient[Any], name: str = "a.md", content: bytes = b"some text", **fields: str) -> dict[str, Any]:
    response = http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "assistants", **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def create_store(http: TestClient[Any], **fields: Any) -> dict[str, Any]:
    response = http.post("/v1/vector_stores", json=fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def form(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    return (
        b"".join(b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (h.encode(), c) for h, c in parts) + end
    )


def test_a_file_has_the_fields_that_clients_expect(http: TestClient[Any]) -> None:
    file = upload(http, "Größe.md", **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": 9,
        "created_at": file["created_at"],
        "filename": "Größe.md",
        "purpose": "assistants",
        "expires_at": file["expires_at"],
        "status": "processed",
    }
    assert file["expires_at"] - file["created_at"] in (3600, 3601)
    assert http.get(f"/v1/files/{file['id']}").json() == file
    content = http.get(f"/v1/files/{file['id']}/content", headers={"Accept": "application/binary"})
    assert content.content == b"some text"
    assert content.headers["content-disposition"] == "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.md"
    assert content.headers["x-content-type-options"] == "nosniff"
    assert http.delete(f"/v1/files/{file['id']}").json() == {"id": file["id"], "object": "file", "deleted": True}
    assert http.get("/v1/files").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    "filename, stored",
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\\\Users\\\\me\\\\a.md", "a.md"),
        ("/a.md", "a.md"),
        ("a/", "upload"),
        ("\x7f", "upload"),
        ("x" * 400 + ".md", "x" * 252 + ".md"),
    ],
)
def test_folders_in_a_filename_are_dropped(http: TestClient[Any], tmp_path: Path, filename: str, stored: str) -> None:
    body = form((f'name="file"; filename="{filename}"', b"text"), ('name="purpose"', b"x"))
    response = http.post("/v1/files", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert response.json()["filename"] == stored
    create_store(http, file_ids=[response.json()["id"]])
    databases = {f"{name}.sqlite3" for name in ("batches", "jobs", "library", "responses")}
    outside = {path.name.removesuffix("-wal").removesuffix("-shm") for path in tmp_path.iterdir()}
    assert outside <= {"files", "uploads", *databases}


FILE, PURPOSE = ('name="file"; filename="a.md"', b"text"), ('name="purpose"', b"assistants")


@pytest.mark.parametrize(
    "body, content_type, status, param",
    [
        (form(FILE), None, 400, "purpose"),
        (form(PURPOSE), None, 400, "file"),
        (form(FILE, FILE, PURPOSE), None, 400, "file"),
        (form(('name="file"; filename="a.md"', b""), PURPOSE), None, 400, "file"),
        (form(('name="file"; filename="a.md"', b"x" * 10_001), PURPOSE), None, 413, "file"),
        (form(('name="purpose"', b"x" * 100_000), FILE), None, 400, "purpose"),
        (form(FILE, ('name="purpose"', b"\xff")), None, 400, None),
        (form(FILE, PURPOSE, ('name="expires_after[seconds]"', b"1")), None, 400, "expires_after"),
        (form(FILE, PURPOSE, ('name="expires_after[anchor]"', b"now")), None, 400, "expires_after"),
        (form(*[PURPOSE] * 100, FILE), None, 400, None),
        (form(FILE, PURPOSE, end=b""), None, 400, None),
        (form(FILE, PURPOSE)[:40], None, 400, None),
        (b"", None, 400, None),
        (b"rubbish", None, 400, None),
        (form(FILE, PURPOSE), "multipart/form-data", 400, None),
        (form(FILE, PURPOSE), "multipart/form-data; boundary=y", 400, None),
        (b"{}", "application/json", 415, None),
        (b"file=a", "application/x-www-form-urlencoded", 415, None),
        (b"", "", 415, None),
    ],
)
def test_a_body_without_a_form_with_a_file_is_refused(
    http: TestClient[Any], tmp_path: Path, body: bytes, content_type: str | None, status: int, param: str | None
) -> None:
    headers = {"Content-Type": content_type if content_type is not None else "multipart/form-data; boundary=x"}
    response = http.post("/v1/files", content=body, headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text
    assert http.get("/v1/files").json()["data"] == []
    assert not any((tmp_path / "files" / ".incoming").iterdir())


def test_two_gigabytes_are_refused_before_they_arrive(http: TestClient[Any]) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(2 << 30)}
    response = http.post("/v1/files", content=b"--x\r\n", headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "file_too_large")


def test_lists_are_paginated(http: TestClient[Any]) -> None:
    ids = [upload(http, f"{number}.md")["id"] for number in range(5)]
    page = http.get("/v1/files", params={"limit": 2}).json()
    assert [file["id"] for file in page["data"]] == [ids[4], ids[3]]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[4], ids[3], True)
    page = http.get("/v1/files", params={"limit": 3, "after": ids[3], "order": "desc"}).json()
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([ids[2], ids[1], ids[0]], False)
    page = http.get("/v1/files", params={"order": "asc", "after": ids[4]}).json()
    assert (page["data"], page["has_more"]) == ([], False)
    store = create_store(http, file_ids=ids)["id"]
    page = http.get(f"/v1/vector_stores/{store}/files", params={"order": "asc", "before": ids[3], "limit": 2}).json()
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([ids[1], ids[2]], True)
    page = http.get(f"/v1/vector_stores/{store}/files", params={"filter": "completed"}).json()
    assert page["data"] == []


def test_a_vector_store_has_the_fields_that_clients_expect(http: TestClient[Any]) -> None:
    file = upload(http)["id"]
    store = create_store(
        http,
        name="Mine",
        description="of me",
        file_ids=[file],
        metadata={"a": "b"},
        expires_after={"anchor": "last_active_at", "days": 2},
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 300, "chunk_overlap_tokens": 150}},
        unknown=[1],
    )
    assert store == {
        "id": store["id"],
        "object": "vector_store",
        "created_at": store["created_at"],
        "name": "Mine",
        "description": "of me",
        "usage_bytes": 0,
        "file_counts": {"in_progress": 1, "completed": 0, "failed": 0, "cancelled": 0, "total": 1},
        "status": "in_progress",
        "expires_after": {"anchor": "last_active_at", "days": 2},
        "expires_at": store["last_active_at"] + 172_800,
        "last_active_at": store["last_active_at"],
        "metadata": {"a": "b"},
    }
    response = http.get(f"/v1/vector_stores/{store['id']}")
    assert response.json() == store and 0 < int(response.headers["openai-poll-after-ms"]) <= 250
    changed = http.post(f"/v1/vector_stores/{store['id']}", json={"name": "Ours", "metadata": None}).json()
    assert (changed["name"], changed["metadata"], changed["expires_at"]) == ("Ours", {"a": "b"}, store["expires_at"])
    changed = http.post(f"/v1/vector_stores/{store['id']}", json={"expires_after": None}).json()
    assert (changed["expires_after"], changed["expires_at"]) == (None, None)
    store_file = http.get(f"/v1/vector_stores/{store['id']}/files/{file}").json()
    assert store_file == {
        "id": file,
        "object": "vector_store.file",
        "usage_bytes": 9,
        "created_at": store_file["created_at"],
        "vector_store_id": store["id"],
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": {
            "type": "static",
            "static": {"max_chunk_size_tokens": 300, "chunk_overlap_tokens": 150},
        },
        "attributes": {},
    }
    content = http.get(f"/v1/vector_stores/{store['id']}/files/{file}/content").json()
    assert content == {
        "object": "vector_store.file_content.page",
        "data": [],
        "has_more": False,
        "next_page": None,
    }
    batch = http.post(f"/v1/vector_stores/{store['id']}/file_batches", json={"file_ids": [file]}).json()
    assert batch == {
        "id": batch["id"],
        "object": "vector_store.files_batch",
        "created_at": batch["created_at"],
        "vector_store_id": store["id"],
        "status": "in_progress",
        "file_counts": {"in_progress": 1, "completed": 0, "failed": 0, "cancelled": 0, "total": 1},
    }
    assert batch["id"].startswith("vsfb_")


STATIC = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}


@pytest.mark.parametrize(
    "path, body, param",
    [
        ("", {"name": 7}, "name"),
        ("", {"name": "x" * 257}, "name"),
        ("", {"file_ids": "file-x"}, "file_ids"),
        ("", {"file_ids": ["file-x"] * 501}, "file_ids"),
        ("", {"metadata": {"a": 1}}, "metadata[...]"),
        ("", {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ("", {"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
        ("", {"expires_after": {"days": 0}}, "expires_after.days"),
        ("", {"expires_after": {"days": 366}}, "expires_after.days"),
        ("", {"chunking_strategy": {"type": "semantic"}}, "chunking_strategy.type"),
        ("", {"chunking_strategy": {"type": "static"}}, "chunking_strategy.type"),
        (
            "",
            {"chunking_strategy": {"type": "static", "static": {**STATIC, "max_chunk_size_tokens": 99}}},
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        (
            "",
            {"chunking_strategy": {"type": "static", "static": {**STATIC, "max_chunk_size_tokens": 4097}}},
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        (
            "",
            {"chunking_strategy": {"type": "static", "static": {**STATIC, "chunk_overlap_tokens": 51}}},
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        ("/{store}/files", {"attributes": {}}, "file_id"),
        ("/{store}/files", {"file_id": UNKNOWN_FILE, "attributes": {"a": None}}, "attributes[...]"),
        ("/{store}/files", {"file_id": UNKNOWN_FILE, "attributes": {"a": "x" * 513}}, "attributes[...]"),
        ("/{store}/file_batches", {}, "file_ids"),
        ("/{store}/file_batches", {"file_ids": []}, "file_ids"),
        ("/{store}/file_batches", {"file_ids": ["a"], "files": [{"file_id": "a"}]}, "file_ids"),
        (
            "/{store}/file_batches",
            {"files": [{"file_id": "a"}, {"file_id": "b", "chunking_strategy": {"type": "x"}}]},
            "files[1].chunking_strategy.type",
        ),
        ("/{store}/search", {}, "query"),
        ("/{store}/search", {"query": ""}, "query"),
        ("/{store}/search", {"query": []}, "query"),
        ("/{store}/search", {"query": "a", "max_num_results": 51}, "max_num_results"),
        ("/{store}/search", {"query": "a", "max_num_results": 0}, "max_num_results"),
        (
            "/{store}/search",
            {"query": "a", "ranking_options": {"score_threshold": 2}},
            "ranking_options.score_threshold",
        ),
        ("/{store}/search", {"query": "a", "filters": {"type": "eq", "value": 1}}, "filters.key"),
        ("/{store}/search", {"query": "a", "filters": [1]}, "filters"),
    ],
)
def test_an_invalid_field_is_refused_and_named(
    http: TestClient[Any], path: str, body: dict[str, Any], param: str
) -> None:
    store = create_store(http)["id"]
    response = http.post(f"/v1/vector_stores{path.format(store=store)}", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/v1/files/{file}"),
        ("GET", "/v1/files/{file}/content"),
        ("DELETE", "/v1/files/{file}"),
        ("GET", "/v1/files/" + folder_file_id(5)),
        ("GET", "/v1/vector_stores/vs_x"),
        ("POST", "/v1/vector_stores/vs_x"),
        ("DELETE", "/v1/vector_stores/vs_x"),
        ("POST", "/v1/vector_stores/vs_x/search"),
        ("GET", "/v1/vector_stores/vs_x/files"),
        ("POST", "/v1/vector_stores/vs_x/files"),
        ("POST", "/v1/vector_stores/{store}/files"),
        ("GET", "/v1/vector_stores/{store}/files/{file}"),
        ("POST", "/v1/vector_stores/{store}/files/{file}"),
        ("DELETE", "/v1/vector_stores/{store}/files/{file}"),
        ("GET", "/v1/vector_stores/{store}/files/{file}/content"),
        ("POST", "/v1/vector_stores/vs_x/file_batches"),
        ("GET", "/v1/vector_stores/{store}/file_batches/vsfb_x"),
        ("POST", "/v1/vector_stores/{store}/file_batches/vsfb_x/cancel"),
        ("GET", "/v1/vector_stores/{store}/file_batches/vsfb_x/files"),
    ],
)
def test_unknown_ids_are_not_found(http: TestClient[Any], method: str, path: str) -> None:
    store = create_store(http)["id"]
    body = {"query": "a", "file_id": UNKNOWN_FILE, "file_ids": [UNKNOWN_FILE], "attributes": {"a": 1}}
    response = http.request(
        method, path.format(store=store, file=UNKNOWN_FILE), json=body if method == "POST" else None
    )
    assert response.status_code == 404, response.text
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files?after=file-x",
        "/v1/vector_stores?after=vs_x",
        "/v1/vector_stores?before=vs_x",
        "/v1/vector_stores/{store}/files?after=file-x",
        "/v1/files?limit=0",
        "/v1/files?limit=10001",
        "/v1/files?order=up",
        "/v1/vector_stores?limit=101",
        "/v1/vector_stores?limit=many",
        "/v1/vector_stores/{store}/files?filter=done",
    ],
)
def test_unknown_cursors_and_limits_are_refused(http: TestClient[Any], path: str) -> None:
    response = http.get(path.format(store=create_store(http)["id"]))
    assert response.status_code == 400, response.text


def passage(path: str, collection: str, score: float, z_score: float) -> Passage:
    evidence = (Evidence(z_score, 1.0),)
    return Passage(7, 9, collection, path, ("Soup",), "Barley.", 3, 4, score, evidence=evidence)


@pytest.mark.parametrize("z_score, least, most", [(12.0, 0.95, 1.0), (3.5, 0.5, 0.5), (0.0, 0.0, 0.2)])
def test_scores_are_calibrated_by_relevance(
    http: TestClient[Any], index: FakeIndex, z_score: float, least: float, most: float
) -> None:
    file = upload(http)["id"]
    store = create_store(http)["id"]
    http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file, "attributes": {"year": 2024}})
    path = f"auto/{file}/a.md"
    index.passages = [passage(path, UPLOADS, 1.0, z_score), passage(path, UPLOADS, 0.5, -3.0)]
    body = {"query": ["soup", "broth"], "filters": {"type": "gt", "key": "year", "value": 2000}, "max_num_results": 5}
    results = http.post(f"/v1/vector_stores/{store}/search", json=body).json()
    assert (results["object"], results["search_query"], results["has_more"]) == (
        "vector_store.search_results.page",
        ["soup", "broth"],
        False,
    )
    first, second = results["data"]
    assert least <= first["score"] <= most and second["score"] == pytest.approx(first["score"] / 2, abs=1e-3)
    assert (first["file_id"], first["filename"], first["attributes"]) == (file, "a.md", {"year": 2024})
    assert first["content"] == [{"type": "text", "text": "Barley."}]
    assert index.searches == [(["soup", "broth"], 5, [UPLOADS], None)]
    assert index.subsets == [(FileSubset(UPLOADS, frozenset([path])),)]
    body["ranking_options"] = {"ranker": "auto", "score_threshold": 0.9}
    relevant = http.post(f"/v1/vector_stores/{store}/search", json=body).json()["data"]
    assert len(relevant) == (1 if least > 0.9 else 0)


def test_watched_folders_are_listed_and_refuse_changes(http: TestClient[Any]) -> None:
    stores = {store["name"]: store["id"] for store in http.get("/v1/vector_stores").json()["data"]}
    assert stores == {name: folder_store_id(name) for name in ("handbook", "policies")}
    file = upload(http)["id"]
    for method, path, body in (
        ("POST", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("POST", "/files", {"file_id": file}),
        ("POST", "/file_batches", {"file_ids": [file]}),
        ("DELETE", f"/files/{file}", None),
    ):
        response = http.request(method, f"/v1/vector_stores/{stores['handbook']}{path}", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "read_only"), response.text
        assert "'handbook'" in json.loads(response.text)["error"]["message"]
