"""A key that is limited to some collections sees and changes nothing of the others in the index."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from litestar.testing import TestClient

from index.ingest.commands import Command, Rescan
from index.ingest.progress import Progress, SpaceSwitch
from index.ingest.store import open_document_store
from index.storage.records import FileStat
from index.types import Chunk, Collection
from server.access.hosts import Hosts
from server.access.keys import Role
from server.access.middleware import Access
from server.api.cloister.index import routes as index_routes
from server.storage.local.keys import KeyFile
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

BUSY = Progress("indexing", "policies", "salaries.md", 3.0, 4000, 12.5, None, SpaceSwitch(1, 9))


class FakeIndexer:
    """An indexer that indexes `policies` and records the commands it gets. Replaces its supervisor and its client."""

    name, is_ready, has_started, state, num_restarts = "indexer", True, True, "ready", 0

    def __init__(self) -> None:
        self.progress = BUSY
        self.commands: list[Command] = []

    def current(self) -> "FakeIndexer":
        return self

    async def send(self, command: Command) -> None:
        self.commands.append(command)


class LimitedKeys:
    """A server with a folder of two collections, `handbook` and `policies`, and keys for it."""

    def __init__(self, client: TestClient[Any], keys: KeyFile, indexer: FakeIndexer) -> None:
        self.client = client
        self.indexer = indexer
        self._keys = keys

    def headers(self, *collections: str) -> dict[str, str]:
        """Create a key with the role `write` for these collections, or for all if none is named; return its headers."""
        name = f"key-{len(self._keys.read())}"
        _, text = self._keys.create(name, Role.WRITE, list(collections) or None)
        return {"Authorization": f"Bearer {text}"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LimitedKeys]:
    store = open_document_store(tmp_path)
    ids = store.configure([Collection("handbook", tmp_path), Collection("policies", tmp_path)])
    store.replace(ids["handbook"], "leave.md", FileStat(9, 0), "", None, [Chunk("Leave.", (), 0, 6, 1, 1)])
    store.replace(ids["policies"], "travel.md", FileStat(9, 0), "", None, [Chunk("Travel.", (), 0, 7, 1, 1)])
    store.fail(ids["policies"], "secrets.pdf", FileStat(9, 0), "it is encrypted")
    store.record_missing(ids["policies"], 3)
    store.close()
    keys, indexer = KeyFile(tmp_path), FakeIndexer()
    keys.create("first", Role.ADMIN)
    access = Access(Hosts("127.0.0.1", ["testserver.local"]), keys=keys)
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([]), access, indexer=indexer) as client:
        yield LimitedKeys(client, keys, indexer)


def _status(api: LimitedKeys, *collections: str) -> dict[str, Any]:
    response = api.client.get("/v1/index/status", headers=api.headers(*collections))
    assert response.status_code == 200
    return cast(dict[str, Any], response.json())


def test_a_key_for_all_collections_sees_the_file_that_is_indexed(api: LimitedKeys) -> None:
    status = _status(api)
    assert status["current"] == {"collection": "policies", "path": "salaries.md"}
    assert (status["activity"], status["files_per_s"], status["lag_s"]) == ("indexing", 3.0, 12.5)
    assert [each["name"] for each in status["collections"]] == ["handbook", "policies"]


def test_a_limited_key_sees_nothing_of_other_collections_in_the_status(api: LimitedKeys) -> None:
    status = _status(api, "handbook")
    assert (status["activity"], status["current"], status["error"], status["switch"]) == ("idle", None, None, None)
    assert (status["files_per_s"], status["bytes_per_s"], status["lag_s"]) == (0, 0, 0)
    assert [each["name"] for each in status["collections"]] == ["handbook"]
    for name in ("salaries", "secrets", "policies", "encrypted"):
        assert name not in json.dumps(status)


def test_a_limited_key_sees_the_file_of_its_own_collection_that_is_indexed(api: LimitedKeys) -> None:
    assert _status(api, "policies")["current"] == {"collection": "policies", "path": "salaries.md"}


def test_a_limited_key_sees_why_all_indexing_waits(api: LimitedKeys) -> None:
    api.indexer.progress = Progress("waiting", error="the index cannot be written: the disk is full")
    status = _status(api, "handbook")
    assert (status["activity"], status["error"]) == ("waiting", "the index cannot be written: the disk is full")


def test_a_limited_key_sees_nothing_of_other_collections_in_the_events(
    api: LimitedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = index_routes.status_changes

    async def first_status(*arguments: Any) -> Any:
        async for status in statuses(*arguments):
            yield status
            return

    monkeypatch.setattr(index_routes, "status_changes", first_status)
    seen = api.client.get("/v1/index/events", headers=api.headers("handbook")).text
    assert "handbook" in seen
    for name in ("salaries", "secrets", "policies", "encrypted"):
        assert name not in seen
    assert "salaries" in api.client.get("/v1/index/events", headers=api.headers()).text


def test_a_limited_key_sees_no_documents_of_other_collections(api: LimitedKeys) -> None:
    headers = api.headers("handbook")
    assert api.client.get("/documents/1", headers=headers).status_code == 200
    assert api.client.get("/documents/2", headers=headers).status_code == 404
    assert api.client.get("/documents/2", headers=api.headers()).status_code == 200
    assert api.client.get("/v1/collections/policies/documents", headers=headers).status_code == 404
    names = [each["id"] for each in api.client.get("/v1/collections", headers=headers).json()["data"]]
    assert names == ["handbook"]


def test_a_limited_key_rescans_and_releases_deletions_in_its_own_collections_alone(api: LimitedKeys) -> None:
    body = {"accept_deletions": True}
    for collections in (["handbook"], ["handbook", "policies"], []):
        response = api.client.post("/v1/index/rescan", json=body, headers=api.headers(*collections))
        assert response.status_code == 202
    assert api.indexer.commands == [
        Rescan(("handbook",), accept_deletions=True),
        Rescan(("handbook", "policies"), accept_deletions=True),
        Rescan(None, accept_deletions=True),
    ]


def test_a_limited_key_cannot_name_another_collection_to_rescan(api: LimitedKeys) -> None:
    headers = api.headers("handbook")
    assert api.client.post("/v1/index/rescan", json={"collection": "policies"}, headers=headers).status_code == 404
    assert api.client.post("/v1/index/rescan", json={"collection": "handbook"}, headers=headers).status_code == 202
    assert api.indexer.commands == [Rescan(("handbook",))]
