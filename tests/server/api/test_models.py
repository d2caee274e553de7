"""GET /v1/models over HTTP, with scripted models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from models.catalog import ResolvedModel
from models.errors import ModelNotFound
from server.resources.reranking import RerankingService
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as client:
        yield client


def cards(client: TestClient[Any]) -> dict[str, dict[str, Any]]:
    return {card["id"]: card for card in client.get("/v1/models").raise_for_status().json()["data"]}


def test_chat_models_come_first_and_have_every_field_for_the_context_length(client: TestClient[Any]) -> None:
    models_by_id = cards(client)
    assert list(models_by_id) == ["cloister", "cloister/handbook", "cloister/policies", "played", "fake-embedder"]
    assert models_by_id["played"] == {
        "id": "played",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "cloister",
        "state": "ready",
        "capabilities": ["completion", "tools", "insert", "thinking"],
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "context_length": 20_000,
        "context_window": 20_000,
        "max_model_len": 20_000,
        "max_output_tokens": 20_000,
        "memory": 3_000_000,
        "meta": {
            "n_ctx": 20_000,
            "n_ctx_train": 32_768,
            "n_params": 1_000_000,
            "size": 2_000_000,
            "n_embd": 64,
            "n_vocab": 512,
            "vocab_type": 2,
        },
    }


def test_grounded_models_lack_the_insert_capability(client: TestClient[Any]) -> None:
    assert cards(client)["cloister/handbook"]["capabilities"] == ["completion", "tools", "thinking"]


def test_embedding_and_reranking_models_declare_their_modalities(client: TestClient[Any], tmp_path: Path) -> None:
    services = client.app.state.services
    services.reranking = RerankingService(
        ResolvedModel("reader", tmp_path, None), services.embeddings, services.encoder.current
    )
    embedder, reranker = cards(client)["fake-embedder"], cards(client)["reader"]
    assert embedder["capabilities"] == ["embedding", "rerank"]
    assert (embedder["context_length"], embedder["max_model_len"], embedder["dimensions"]) == (8, 8, 16)
    assert reranker["capabilities"] == ["rerank"]
    assert not {"meta", "memory", "max_output_tokens"} & (embedder.keys() | reranker.keys())


def test_lengths_are_0_while_the_encoder_starts(client: TestClient[Any]) -> None:
    encoder = client.app.state.services.encoder
    encoder.is_ready, encoder.state = False, "starting"
    embedder = cards(client)["fake-embedder"]
    assert (embedder["state"], embedder["context_length"], "dimensions" in embedder) == ("starting", 0, False)


@pytest.mark.parametrize(("state", "reply"), [("ready", "loaded"), ("starting", "loading")])
def test_several_chat_models_have_a_load_status(client: TestClient[Any], state: str, reply: str) -> None:
    pool = client.app.state.services.pool
    pool.missing["gone"], pool.default.state = ModelNotFound("gone"), state
    models_by_id = cards(client)
    assert (models_by_id["cloister"]["status"], models_by_id["gone"]["status"]) == (
        {"value": reply},
        {"value": "unloaded"},
    )
    assert models_by_id["gone"]["state"].startswith("not available: ")
    assert (models_by_id["gone"]["context_length"], models_by_id["gone"]["capabilities"]) == (0, [])
    assert "status" not in models_by_id["fake-embedder"]


@pytest.mark.parametrize("id", ["cloister/handbook", "cloister%2Fhandbook%40played", "played", "fake-embedder"])
@pytest.mark.parametrize("base", ["/v1/models", "/models"])
def test_a_model_is_retrieved_by_its_id(client: TestClient[Any], base: str, id: str) -> None:
    assert client.get(f"{base}/{id}").raise_for_status().json()["id"] == id.replace("%2F", "/").replace("%40", "@")


@pytest.mark.parametrize("id", ["gone", "%00", "..%2F..", "%F0%9F%99%82", "x" * 3000, "cloister%2Fgone"])
def test_an_unknown_id_is_a_404(client: TestClient[Any], id: str) -> None:
    for method in ("GET", "DELETE"):
        response = client.request(method, f"/v1/models/{id}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


def test_deleting_a_model_is_refused(client: TestClient[Any]) -> None:
    response = client.delete("/v1/models/played")
    assert (response.status_code, response.json()["error"]["type"]) == (403, "invalid_request_error")
    assert client.get("/v1/models/played").status_code == 200
