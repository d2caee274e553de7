"""POST /v1/rerank over HTTP, with a fake encoder."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from litestar.testing import TestClient

from models.catalog import ResolvedModel
from server.resources.reranking import RerankingService
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeEncoder, FakeIndex, serving, vector_of

QUERY = "red fox"
TEXTS = ["a blue whale", "the red fox runs", "red wine", "some five words before the red fox"]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as client:
        yield client


@pytest.fixture
def cross(client: TestClient[Any], tmp_path: Path) -> TestClient[Any]:
    """Yield a client of a server with a cross-encoder."""
    services = client.app.state.services
    reader = ResolvedModel("reader", tmp_path, None)
    services.reranking = RerankingService(reader, services.embeddings, lambda: services.fake_encoder)
    return client


def rerank(client: TestClient[Any], **fields: Any) -> dict[str, Any]:
    body = {"query": QUERY, "documents": TEXTS, **fields}
    body_of_reply: dict[str, Any] = client.post("/v1/rerank", json=body).raise_for_status().json()
    return body_of_reply


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking", "/reranking"])
def test_every_path_returns_the_fields_of_all_clients(client: TestClient[Any], path: str) -> None:
    body = client.post(path, json={"query": QUERY, "documents": TEXTS}).raise_for_status().json()
    assert body["id"].startswith("rerank-")
    assert (body["object"], body["model"], body["scorer"]) == ("list", "fake-embedder", "embedding")
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert sorted(result["index"] for result in body["results"]) == [0, 1, 2, 3]
    assert all(result["document"]["text"] == TEXTS[result["index"]] for result in body["results"])
    assert body["data"] == [{k: v for k, v in result.items() if k != "document"} for result in body["results"]]
    assert body["meta"]["api_version"] == {"version": "2"}
    assert body["usage"]["total_tokens"] == body["meta"]["tokens"]["input_tokens"] > 0


def test_without_a_cross_encoder_the_nearest_part_of_a_text_counts(client: TestClient[Any]) -> None:
    scores = {result["index"]: result["relevance_score"] for result in rerank(client)["results"]}
    query = vector_of(QUERY.split())
    words = TEXTS[3].split()
    nearest = max(float(vector_of(words[:6]) @ query), float(vector_of(words[6:]) @ query))
    assert math.isclose(scores[3], max(nearest, 0), abs_tol=1e-6)
    assert [kind for _, kind, _ in client.app.state.services.fake_encoder.embedded] == ["query", "document"]


def test_a_cross_encoder_s_logits_become_0_to_1(cross: TestClient[Any]) -> None:
    body = rerank(cross)
    assert (body["model"], body["scorer"]) == ("reader", "cross-encoder")
    expected = {0: -2.0, 1: 0.0, 2: -1.0, 3: 0.0}
    assert [result["index"] for result in body["results"]] == [1, 3, 2, 0]  # of equal ones, the first first
    for result in body["results"]:
        assert math.isclose(result["relevance_score"], 1 / (1 + math.exp(-expected[result["index"]])), abs_tol=1e-6)


def test_probabilities_stay_as_they_are(cross: TestClient[Any]) -> None:
    encoder: FakeEncoder = cross.app.state.services.fake_encoder
    encoder.ready = msgspec.structs.replace(encoder.ready, has_probabilities=True)
    assert [result["relevance_score"] for result in rerank(cross)["results"]] == [0, 0, 0, 0]  # cut off at 0


def test_the_embedding_model_can_be_asked_for_by_name(cross: TestClient[Any]) -> None:
    assert rerank(cross, model="fake-embedder")["scorer"] == "embedding"
    assert rerank(cross, model="")["scorer"] == "cross-encoder"
    response = cross.post("/v1/rerank", json={"query": QUERY, "documents": TEXTS, "model": "rerank-v3.5"})
    assert response.status_code == 404
    assert "reader, fake-embedder" in response.json()["error"]["message"]


def test_many_documents_are_read_in_slices(cross: TestClient[Any]) -> None:
    documents = [f"{'red ' * (i % 3)}text {i}" for i in range(100)]
    body = rerank(cross, documents=documents)
    assert len(body["results"]) == 100
    batches = [texts for _, texts in cross.app.state.services.fake_encoder.scored_pairs]
    assert [text for texts in batches for text in texts] == documents
    assert max(map(len, batches)) <= 16


@pytest.mark.parametrize(("fields", "count"), [({"top_n": 2}, 2), ({"top_k": 1}, 1), ({"top_n": 99}, 4), ({}, 4)])
def test_top_n_limits_the_results(client: TestClient[Any], fields: dict[str, int], count: int) -> None:
    whole, part = rerank(client), rerank(client, **fields)
    assert part["results"] == whole["results"][:count]
    assert len(part["data"]) == count


def test_documents_may_be_objects_and_are_left_out_on_request(client: TestClient[Any]) -> None:
    body = rerank(client, documents=[{"text": text, "title": "more"} for text in TEXTS], return_documents=False)
    assert body["data"] == rerank(client)["data"]
    assert all("document" not in result for result in body["results"])


def test_teis_request_gets_teis_reply(client: TestClient[Any]) -> None:
    body = client.post("/rerank", json={"query": QUERY, "texts": TEXTS, "return_text": True}).raise_for_status().json()
    order = [(result["index"], result["relevance_score"]) for result in rerank(client)["results"]]
    assert [(each["index"], each["score"]) for each in body] == order
    assert all(each["text"] == TEXTS[each["index"]] for each in body)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"documents": None}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", {"title": "b"}]}, "documents[1].text"),
        ({"documents": ["a", 7]}, "documents[1]"),
        ({"documents": "a"}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"documents": ["a"] * 2049}, "documents"),
    ],
)
def test_invalid_documents_are_refused_with_their_path(
    client: TestClient[Any], changes: dict[str, Any], param: str
) -> None:
    response = client.post("/v1/rerank", json={"query": QUERY, "documents": TEXTS, **changes})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_scores_are_finite_for_the_largest_logits(cross: TestClient[Any]) -> None:
    """Rerank with the largest logits of float32."""
    encoder: FakeEncoder = cross.app.state.services.fake_encoder

    async def score_pairs(query: str, texts: list[str]) -> Any:
        from models.encoder.client import PairScores

        return PairScores(np.array([3e38, -3e38, 0, 1], np.float32), 4)

    encoder.score_pairs = score_pairs  # type: ignore[method-assign]
    assert [result["relevance_score"] for result in rerank(cross)["results"]] == [
        1,
        pytest.approx(0.731, abs=1e-3),
        0.5,
        0,
    ]
