"""Cohere's own client, unmodified but for its address."""

import pytest
from real_server import Server

cohere = pytest.importorskip("cohere")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DOCUMENTS = ["Iron rusts where water and air reach it.", "Mothers and fathers may stay at home for 16 weeks.", "Rust."]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_documents_are_reranked_by_relevance(server: Server, version: str) -> None:
    with server.client() as http:
        kind = cohere.ClientV2 if version == "v2" else cohere.Client
        client = kind(api_key="none", base_url=server.url, httpx_client=http)
        reply = client.rerank(
            model="all-MiniLM-L6-v2", query="How long is parental leave?", documents=DOCUMENTS, top_n=2
        )
    assert reply.results[0].index == 1
    assert len(reply.results) == 2
    assert reply.results[0].relevance_score > 0.3 > reply.results[1].relevance_score
    assert reply.id.startswith("rerank-")
    assert reply.meta.tokens.input_tokens > 20
