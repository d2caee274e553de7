"""POST /api/embed and /api/embeddings, carried out by the embeddings API."""

import time

from server.api.embeddings.reply import embed_request
from server.api.embeddings.wire import EmbeddingRequest
from server.api.ollama.wire import OllamaEmbeddings, OllamaEmbedRequest, OllamaLegacyEmbedding, OllamaLegacyEmbedRequest
from server.generation.target import without_tag
from server.resources.embedding import EmbeddingService


async def embed(data: OllamaEmbedRequest, embeddings: EmbeddingService) -> OllamaEmbeddings:
    """Return the vectors of the texts; without text, with which clients load a model, none. Raises what
    `embed_request` does."""
    started = time.perf_counter_ns()
    vectors: list[list[float]] = []
    num_tokens = 0
    name = without_tag(data.model or embeddings.model.name)
    if data.input:
        texts: str | list[str | int | list[int]] = data.input if isinstance(data.input, str) else [*data.input]
        request = EmbeddingRequest(
            input=texts, model=name, dimensions=data.dimensions, truncate=False if data.truncate is False else None
        )
        result = await embed_request(request, embeddings)
        vectors, num_tokens = result.vectors.tolist(), sum(result.num_tokens)
    else:
        embeddings.check(name)
    took = time.perf_counter_ns() - started
    return OllamaEmbeddings(
        model=data.model or name, embeddings=vectors, total_duration=took, prompt_eval_count=num_tokens
    )


async def embed_one(data: OllamaLegacyEmbedRequest, embeddings: EmbeddingService) -> OllamaLegacyEmbedding:
    result = await embed(OllamaEmbedRequest(model=data.model, input=data.prompt), embeddings)
    return OllamaLegacyEmbedding(result.embeddings[0] if result.embeddings else [])
