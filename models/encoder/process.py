"""The encoder process: query embeddings and reranking. `python -m models.encoder.process FD`.

It runs at normal priority; the indexer embeds documents in a process of its own.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from models.encoder.embedder import Embedder, open_embedder
from models.encoder.messages import (
    Embed,
    EmbedderInfo,
    EmbedParts,
    EncoderReady,
    EncoderReply,
    LoadEncoder,
    ModelFiles,
    Rerank,
    ToEncoder,
    UnloadPrevious,
)
from models.encoder.parts import split_into_parts
from models.encoder.reranker import CrossEncoder, open_reranker
from models.ipc import Inbox, child_main
from models.threads import lower_thread_priority


def _reply(id: int, compute: Callable[[], NDArray[np.float32]], tokens: list[list[int]] | None = None) -> EncoderReply:
    """Run `compute` and return its values or its error. `tokens` is read after it: `compute` may fill it."""
    try:
        return EncoderReply(id, compute().astype("<f4").tobytes(), tokens or [])
    except Exception as error:  # whatever a runtime raises answers this request, and does not end the process
        return EncoderReply(id, error=_first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _embed(embedder: Embedder | None, request: Embed) -> EncoderReply:
    if embedder is None:
        return EncoderReply(request.id, error="the previous embedding model is not loaded")
    embed = embedder.embed_queries if request.kind == "query" else embedder.embed_documents
    return _reply(request.id, lambda: embed(request.texts))


def _embed_parts(embedder: Embedder, request: EmbedParts) -> EncoderReply:
    max_tokens = embedder.max_text_tokens(request.kind)
    num_added = embedder.max_tokens - max_tokens  # the prompt, and the model's start and end tokens
    tokens: list[list[int]] = []

    def compute() -> NDArray[np.float32]:
        texts = []
        for text in request.texts:
            parts = split_into_parts(text, embedder.count_tokens, max_tokens)
            texts += [part.text for part in parts]
            tokens.append([part.num_tokens + num_added for part in parts])
        embed = embedder.embed_queries if request.kind == "query" else embedder.embed_documents
        return embed(texts, low_priority=request.is_low_priority)

    return _reply(request.id, compute, tokens)


def _rerank(reranker: CrossEncoder | None, request: Rerank) -> EncoderReply:
    if reranker is None:
        return EncoderReply(request.id, error='no reranker is loaded; name one: reranker = "FOLDER"')
    tokens: list[list[int]] = []

    def compute() -> NDArray[np.float32]:
        tokens.append(reranker.count_tokens(request.query, request.texts))
        return reranker.rerank(request.query, request.texts)

    return _reply(request.id, compute, tokens)


def _open_previous(files: ModelFiles | None, num_threads: int) -> tuple[Embedder | None, str | None]:
    """Return the previous embedder, or why it cannot be loaded; the encoder then starts without it."""
    if files is None:
        return None, None
    try:
        previous = open_embedder(files, num_threads)
        previous.embed_queries(["warm up"])
    except Exception as error:  # whatever a runtime raises
        return None, _first_line(error)
    return previous, None


def _serve(inbox: Inbox[ToEncoder]) -> None:
    messages = iter(inbox)
    load = next(messages, None)
    if not isinstance(load, LoadEncoder):
        return
    embedder = open_embedder(load.embedder, load.num_threads)
    embedder.embed_queries(["warm up"])  # the first call pays for lazy set-up, so that the first question does not
    reranker = open_reranker(load.reranker, load.num_threads) if load.reranker else None
    previous, reason = _open_previous(load.previous, load.num_threads)
    inbox.send(
        EncoderReady(
            dimension=embedder.dimension,
            fingerprint=embedder.fingerprint,
            max_tokens=embedder.max_tokens,
            has_reranker=reranker is not None,
            has_probabilities=reranker is not None and reranker.has_probabilities,
            previous=EmbedderInfo(previous.fingerprint, previous.dimension) if previous else None,
            previous_error=reason,
        )
    )
    with (  # threads of their own, so that no query waits for a reranking or for a client's texts
        ThreadPoolExecutor(1, thread_name_prefix="rerank") as reranking,
        ThreadPoolExecutor(1, thread_name_prefix="low-priority", initializer=lower_thread_priority) as low_priority,
    ):
        for message in messages:
            match message:
                case Embed():
                    inbox.send(_embed(previous if message.use_previous else embedder, message))
                case EmbedParts(is_low_priority=True):
                    low_priority.submit(lambda request: inbox.send(_embed_parts(embedder, request)), message)
                case EmbedParts():
                    inbox.send(_embed_parts(embedder, message))
                case UnloadPrevious():
                    previous = None
                case Rerank():
                    reranking.submit(lambda request: inbox.send(_rerank(reranker, request)), message)


if __name__ == "__main__":
    child_main(_serve, ToEncoder)
