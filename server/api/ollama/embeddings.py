"""POST /api/embed and /api/embeddings: texts to vectors, as Ollama tells them."""

import time

from server.api.embeddings.reply import embed_request
from server.api.embeddings.wire import EmbeddingRequest
from server.api.ollama.wire import OllamaEmbeddings, OllamaEmbedRequest, OllamaLegacyEmbedding, OllamaLegacyEmbedRequest
from server.generation.target import untagged
from server.resources.embedding import Embeddings


async def embed(data: OllamaEmbedRequest, embeddings: Embeddings) -> OllamaEmbeddings:
    """No text at all has no vectors: so clients load a model. Raises what `embed_request` does."""
    started = time.perf_counter_ns()
    vectors: list[list[float]] = []
    num_tokens = 0
    name = untagged(data.model or embeddings.model.name)
    if data.input:
        texts: str | list[str | int | list[int]] = data.input if isinstance(data.input, str) else [*data.input]
        asked = EmbeddingRequest(
            input=texts, model=name, dimensions=data.dimensions, truncate=False if data.truncate is False else None
        )
        found = await embed_request(asked, embeddings)
        vectors, num_tokens = found.vectors.tolist(), sum(found.num_tokens)
    else:
        embeddings.check(name)
    took = time.perf_counter_ns() - started
    return OllamaEmbeddings(
        model=data.model or name, embeddings=vectors, total_duration=took, prompt_eval_count=num_tokens
    )


async def embed_one(data: OllamaLegacyEmbedRequest, embeddings: Embeddings) -> OllamaLegacyEmbedding:
    found = await embed(OllamaEmbedRequest(model=data.model, input=data.prompt), embeddings)
    return OllamaLegacyEmbedding(found.embeddings[0] if found.embeddings else [])
