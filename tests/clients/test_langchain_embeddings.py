"""LangChain's OpenAIEmbeddings with default settings, which sends tokens of cl100k_base instead of text."""

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest
from real_server import Server

from server.api.embeddings.cl100k import tokens

langchain_openai = pytest.importorskip("langchain_openai")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

_URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"  # never fetched: names the file
TEXTS = ["How long is parental leave?", "Zwölf Wochen 🙂 sechzehn", "word " * 600]


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the table where tiktoken looks before it downloads."""
    lines = (base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens()))
    (tmp_path / hashlib.sha1(_URL.encode()).hexdigest()).write_bytes(b"".join(lines))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("ranks")
def test_tokens_and_texts_are_embedded_alike(server: Server) -> None:
    with server.client() as http:
        common = {"model": "all-MiniLM-L6-v2", "base_url": f"{server.url}/v1", "api_key": "none", "http_client": http}
        by_tokens = langchain_openai.OpenAIEmbeddings(**common)
        by_text = langchain_openai.OpenAIEmbeddings(**common, check_embedding_ctx_length=False)
        assert np.allclose(by_tokens.embed_documents(TEXTS), by_text.embed_documents(TEXTS), atol=1e-6)
        assert np.allclose(by_tokens.embed_query(TEXTS[0]), by_text.embed_query(TEXTS[0]), atol=1e-6)
