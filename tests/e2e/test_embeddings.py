"""Embedding and reranking with the real model through OpenAI's client, also beside questions."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from real_server import Server

from models.encoder.embedder import open_embedder
from models.encoder.messages import ModelFiles
from tests.models.conftest import minilm  # noqa: F401

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MODEL = "all-MiniLM-L6-v2"
TEXTS = ["How long is parental leave?", "Mothers and fathers may stay at home for 16 weeks.", "Iron rusts."]


def connect(server: Server, *, is_strict: bool) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=server.client(),
        _strict_response_validation=is_strict,
    )


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with connect(server, is_strict=False) as client:
        yield client


@pytest.fixture(scope="module")
def strict(server: Server) -> Iterator[openai.OpenAI]:
    with connect(server, is_strict=True) as client:
        yield client


def test_openai_s_client_gets_the_model_s_own_vectors(
    client: openai.OpenAI,
    strict: openai.OpenAI,
    minilm: ModelFiles,  # noqa: F811
) -> None:
    """The client requests base64 and decodes it; in strict mode it only accepts a list of numbers."""
    expected = open_embedder(minilm).embed_documents(TEXTS)
    reply = client.embeddings.create(model=MODEL, input=TEXTS)
    assert np.array_equal(np.float32([card.embedding for card in reply.data]), expected)
    floats = strict.embeddings.create(model="", input=TEXTS[0], encoding_format="float")
    assert np.array_equal(np.float32(floats.data[0].embedding), expected[0])
    assert (floats.model, floats.usage.prompt_tokens) == (MODEL, 8)


def test_a_text_of_any_length_is_embedded_whole(client: openai.OpenAI) -> None:
    """Text behind the model's 256 tokens is part of the vector."""
    padding = "The committee met again and talked about nothing of importance. " * 40
    plain, longer = (
        np.array(client.embeddings.create(model=MODEL, input=padding + end).data[0].embedding)
        for end in ("", "Iron rusts where water and air reach it. " * 40)
    )
    query = np.array(client.embeddings.create(model=MODEL, input="rust on iron").data[0].embedding)
    assert longer @ query > plain @ query + 0.2
    assert abs(np.linalg.norm(longer) - 1) < 1e-5


def test_a_question_does_not_wait_for_a_large_batch(server: Server) -> None:
    batch = [f"{TEXTS[i % 3]} {i} " * 20 for i in range(120)]

    async def scenario() -> tuple[list[float], bool]:
        async with httpx.AsyncClient(base_url=server.url, timeout=120, trust_env=False) as http:
            await http.post("/v1/search", json={"query": "warm"})
            embedding = asyncio.create_task(http.post("/v1/embeddings", json={"input": batch}))
            waits = []
            for question in range(10):
                started = time.monotonic()
                (await http.post("/v1/search", json={"query": f"parental leave {question}"})).raise_for_status()
                waits.append(time.monotonic() - started)
            was_beside = not embedding.done()
            assert len((await embedding).raise_for_status().json()["data"]) == len(batch)
            return waits, was_beside

    waits, was_beside = asyncio.run(scenario())
    assert was_beside
    assert statistics.median(waits) < 0.5  # the batch alone takes seconds


def test_a_disconnected_client_cancels_its_batch(server: Server) -> None:
    """Another batch does not wait for the cancelled one."""
    with server.client() as http:
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/embeddings", json={"input": ["word " * 250] * 2000}, timeout=0.5)
        started = time.monotonic()
        http.post("/v1/embeddings", json={"input": TEXTS * 2}).raise_for_status()
        assert time.monotonic() - started < 5  # the first would have taken half a minute


def test_reranking_without_a_cross_encoder(server: Server) -> None:
    with server.client() as http:
        body: dict[str, Any] = http.post("/v1/rerank", json={"query": TEXTS[0], "documents": TEXTS[1:]}).json()
    assert (body["model"], body["scorer"]) == (MODEL, "embedding")
    assert [result["index"] for result in body["results"]] == [0, 1]
    assert body["results"][0]["relevance_score"] > body["results"][1]["relevance_score"] + 0.2


def test_the_list_of_models_says_what_each_can_do(strict: openai.OpenAI) -> None:
    cards = {card.id: card.model_dump() for card in strict.models.list()}
    assert list(cards) == ["cloister", "cloister/handbook", "reader-v1", MODEL]
    reader, embedder = cards["reader-v1"], cards[MODEL]
    assert reader["capabilities"] == ["completion", "tools"]
    assert reader["context_length"] == reader["context_window"] == reader["max_model_len"] == 2048
    assert reader["meta"]["n_ctx_train"] == 2048
    assert {"n_ctx", "n_params", "size", "n_embd", "n_vocab", "vocab_type"} <= reader["meta"].keys()
    assert reader["meta"]["n_params"] > 3_000_000
    assert embedder["capabilities"] == ["embedding", "rerank"]
    assert (embedder["context_length"], embedder["dimensions"]) == (256, 384)
    assert embedder["architecture"]["output_modalities"] == ["embeddings"]
    assert all(card["state"] == "ready" and "status" not in card for card in cards.values())


@pytest.mark.parametrize("path", ["cloister/handbook", "cloister%2Fhandbook", "cloister%2Fhandbook%40reader-v1"])
def test_a_model_is_found_by_an_id_with_slashes(server: Server, path: str) -> None:
    with server.client() as http:
        for base in ("/v1/models", "/models"):
            card = http.get(f"{base}/{path}").raise_for_status().json()
            assert card["id"] == path.replace("%2F", "/").replace("%40", "@")
            assert card["capabilities"] == ["completion", "tools"]


def test_a_model_is_not_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="settings"):
        client.models.delete(MODEL)
    with pytest.raises(openai.NotFoundError):
        client.models.delete("gone")
    assert client.models.retrieve(MODEL).id == MODEL
