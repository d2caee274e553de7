"""The role that each route requires, and what a key with some collections sees, with fake services."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.testing import TestClient

from index.types import Passage
from server.access.hosts import Hosts
from server.access.keys import Role
from server.access.middleware import PUBLIC, Access
from server.access.roles import is_change, operation_of, role_for
from server.storage.local.keys import KeyFile
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

PASSAGE = Passage(1, 1, "handbook", "a.md", (), "It takes ten days.", 1, 1, 0.9)
QUESTION = {"messages": [{"role": "user", "content": "How long does it take?"}]}

ROLES = {
    "": Role.READ,  # OPTIONS and the OpenAPI document, which Litestar serves
    "applyTemplate": Role.READ,
    "cancelResponse": Role.READ,
    "countInputTokens": Role.READ,
    "countTokens": Role.READ,
    "createChatCompletion": Role.READ,
    "createCompletion": Role.READ,
    "createEmbedding": Role.READ,
    "createFimCompletion": Role.READ,
    "createMessage": Role.READ,
    "createNativeCompletion": Role.READ,
    "createNativeEmbedding": Role.READ,
    "createResponse": Role.READ,
    "deleteResponse": Role.READ,
    "detokenize": Role.READ,
    "downloadFile": Role.READ,
    "health": Role.READ,
    "indexEvents": Role.READ,
    "indexStatus": Role.READ,
    "infill": Role.READ,
    "isAlive": Role.READ,
    "isReady": Role.READ,
    "listBatches": Role.READ,
    "listCollections": Role.READ,
    "listDocuments": Role.READ,
    "listFiles": Role.READ,
    "listFilesInVectorStoreBatch": Role.READ,
    "listInputItems": Role.READ,
    "listModels": Role.READ,
    "listVectorStoreFiles": Role.READ,
    "listVectorStores": Role.READ,
    "loraAdapters": Role.READ,
    "metrics": Role.READ,
    "ollamaChat": Role.READ,
    "ollamaEmbed": Role.READ,
    "ollamaEmbedOne": Role.READ,
    "ollamaGenerate": Role.READ,
    "ollamaRunning": Role.READ,
    "ollamaShow": Role.READ,
    "ollamaTags": Role.READ,
    "ollamaVersion": Role.READ,
    "props": Role.READ,
    "rerank": Role.READ,
    "retrieveBatch": Role.READ,
    "retrieveFile": Role.READ,
    "retrieveModel": Role.READ,
    "retrieveResponse": Role.READ,
    "retrieveVectorStore": Role.READ,
    "retrieveVectorStoreFile": Role.READ,
    "retrieveVectorStoreFileBatch": Role.READ,
    "retrieveVectorStoreFileContent": Role.READ,
    "search": Role.READ,
    "searchVectorStore": Role.READ,
    "showDocument": Role.READ,
    "showPage": Role.READ,
    "showWebFile": Role.READ,
    "slots": Role.READ,
    "speakMcp": Role.READ,
    "tokenize": Role.READ,
    "cancelBatch": Role.WRITE,
    "cancelVectorStoreFileBatch": Role.WRITE,
    "createBatch": Role.WRITE,
    "createVectorStore": Role.WRITE,
    "createVectorStoreFile": Role.WRITE,
    "createVectorStoreFileBatch": Role.WRITE,
    "deleteFile": Role.WRITE,
    "deleteVectorStore": Role.WRITE,
    "deleteVectorStoreFile": Role.WRITE,
    "modifyVectorStore": Role.WRITE,
    "modifyVectorStoreFile": Role.WRITE,
    "pauseIndexing": Role.WRITE,
    "rescan": Role.WRITE,
    "resumeIndexing": Role.WRITE,
    "uploadFile": Role.WRITE,
    "deleteModel": Role.ADMIN,
    "ollamaChange": Role.ADMIN,
    "ollamaDelete": Role.ADMIN,
    "ollamaUpload": Role.ADMIN,
    "reloadCollections": Role.ADMIN,
}


class ServerWithKeys:
    """A server with keys."""

    def __init__(self, folder: Path, client: TestClient[Any], keys: KeyFile, index: FakeIndex) -> None:
        self.folder = folder
        self.client = client
        self.keys = keys
        self.index = index

    def post(self, path: str, body: Any, role: Role = Role.READ, collections: list[str] | None = None) -> Any:
        return self.client.post(path, json=body, headers=self.key(role, collections))

    def get(self, path: str, role: Role = Role.READ, collections: list[str] | None = None) -> Any:
        return self.client.get(path, headers=self.key(role, collections))

    def key(self, role: Role, collections: list[str] | None) -> dict[str, str]:
        name = f"{role.name}-{'-'.join(collections or ['all'])}"
        with contextlib.suppress(Exception):
            self.keys.revoke(name)
        _, text = self.keys.create(name, role, collections)
        return {"Authorization": f"Bearer {text}"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ServerWithKeys]:
    keys, index = KeyFile(tmp_path), FakeIndex([PASSAGE])
    keys.create("first", Role.ADMIN)
    with serving(
        tmp_path, ScriptedChatModel(), index, Access(Hosts("127.0.0.1", ["testserver.local"]), keys=keys)
    ) as client:
        yield ServerWithKeys(tmp_path, client, keys, index)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def handlers_of(app: Any) -> list[HTTPRouteHandler]:
    return [handler for route in app.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers]


def test_the_role_that_each_operation_requires(api: ServerWithKeys) -> None:
    handlers = handlers_of(api.client.app)
    assert {operation_of(handler): role_for(handler) for handler in handlers} == ROLES


def test_every_handler_that_changes_something_declares_its_role(api: ServerWithKeys) -> None:
    unsafe = [handler for handler in handlers_of(api.client.app) if not handler.http_methods <= {"GET", "OPTIONS"}]
    assert [handler for handler in unsafe if "role" not in handler.opt] == []


def test_the_audit_log_knows_which_operations_are_changes(api: ServerWithKeys) -> None:
    changes = {operation_of(handler) for handler in handlers_of(api.client.app) if is_change(handler)}
    assert changes == {name for name, role in ROLES.items() if role > Role.READ} | {"cancelResponse", "deleteResponse"}


def test_an_undeclared_handler_needs_admin_unless_it_is_get() -> None:
    @get("/show")
    async def show() -> None: ...

    @post("/change")
    async def change() -> None: ...

    @delete("/remove")
    async def remove() -> None: ...

    @post("/declared", opt={"role": Role.WRITE})
    async def declare() -> None: ...

    app = Litestar([show, change, remove, declare], openapi_config=None)
    roles = {handler.fn.__name__: role_for(handler) for handler in handlers_of(app)}
    assert roles | {"options_handler": Role.READ} == {
        "show": Role.READ,
        "change": Role.ADMIN,
        "remove": Role.ADMIN,
        "declare": Role.WRITE,
        "options_handler": Role.READ,  # Litestar's own
    }


@pytest.mark.parametrize(("role", "is_allowed"), [(Role.READ, False), (Role.WRITE, True), (Role.ADMIN, True)])
def test_a_key_that_may_only_read_changes_nothing(api: ServerWithKeys, role: Role, is_allowed: bool) -> None:
    response = api.post("/v1/index/pause", None, role)
    if is_allowed:  # and finds that there is no indexer here
        assert response.status_code == 500
    else:
        assert code(response) == (403, "insufficient_role")
        assert "role read; this needs write" in response.json()["error"]["message"]


def test_all_routes_need_a_key(api: ServerWithKeys) -> None:
    for route in api.client.app.routes:
        for method in getattr(route, "methods", ()):
            path = route.path_format.replace("{", "").replace("}", "")
            response = api.client.request(method, path)
            if path in PUBLIC or (path.startswith("/web/") and method != "OPTIONS"):
                assert response.status_code != 401
            else:
                assert response.status_code == 401, (method, path)


def test_a_key_of_one_collection_searches_it_alone(api: ServerWithKeys) -> None:
    assert api.post("/v1/search", {"query": "x"}, collections=["handbook"]).status_code == 200
    assert api.post("/v1/search", {"query": "x"}).status_code == 200
    assert [collections for _, _, collections, _ in api.index.searches] == [("handbook",), None]
    other = {"query": "x", "collections": ["policies"]}
    assert code(api.post("/v1/search", other, collections=["handbook"])) == (404, "collection_not_found")
    assert "policies" not in api.post("/v1/search", other, collections=["handbook"]).text.replace("'policies'", "", 1)
    assert code(api.post("/v1/search", {"query": "x", "collections": ["no"]}, collections=["handbook"]))[0] == 404


def test_a_key_of_one_collection_gets_answers_from_it_alone(api: ServerWithKeys) -> None:
    assert api.post("/v1/chat/completions", QUESTION, collections=["handbook"]).status_code == 200
    assert [collections for _, _, collections, _ in api.index.searches] == [("handbook",)]
    for asked in ({"model": "cloister/policies"}, {"rag": {"collections": ["policies"]}}):
        response = api.post("/v1/chat/completions", {**QUESTION, **asked}, collections=["handbook"])
        assert response.status_code == 404
    assert len(api.index.searches) == 1


def test_sources_of_another_key_s_turn_are_not_recalled(api: ServerWithKeys) -> None:
    """A conversation sent again by a key that sees less is searched again."""
    first = api.post("/v1/chat/completions", QUESTION).json()
    assert [p["is_new"] for p in first["rag"]["passages"]] == [True]
    api.index.passages = ()
    answer = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
    talk = {"messages": [*QUESTION["messages"], answer, {"role": "user", "content": "And then?"}]}
    again = api.post("/v1/chat/completions", {**talk, "rag": {"citations": "none"}}).json()
    assert api.index.searches[-1][2] is None
    restricted = api.post("/v1/chat/completions", talk, collections=["policies"]).json()
    assert restricted["rag"]["passages"] == []
    assert "ten days" not in str(restricted)
    assert again["rag"]["dropped"] == []


def test_a_key_of_no_collection_finds_nothing(api: ServerWithKeys) -> None:
    assert api.post("/v1/search", {"query": "x"}, collections=[]).status_code == 200
    assert api.index.searches[-1][2] == ()
