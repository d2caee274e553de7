"""The encoder process: query embeddings and reranking at normal priority. `python -m models.encoder.process FD`."""

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
from models.encoder.parts import parts_of
from models.encoder.reranker import Reranker, open_reranker
from models.ipc import Inbox, child_main
from models.threads import give_way


def _answer(id: int, compute: Callable[[], NDArray[np.float32]], tokens: list[list[int]] | None = None) -> EncoderReply:
    """`tokens` is read when all is computed."""
    try:
        return EncoderReply(id, compute().astype("<f4").tobytes(), tokens or [])
    except Exception as error:  # whatever a runtime raises: this request's answer, not the process's end
        return EncoderReply(id, error=(str(error).splitlines() or [type(error).__name__])[0])


def _embed(embedder: Embedder | None, request: Embed) -> EncoderReply:
    if embedder is None:
        return EncoderReply(request.id, error="the former embedding model is not loaded")
    embed = embedder.embed_queries if request.kind == "query" else embedder.embed_documents
    return _answer(request.id, lambda: embed(request.texts))


def _embed_parts(embedder: Embedder, request: EmbedParts) -> EncoderReply:
    room = embedder.room(request.kind)
    tokens: list[list[int]] = []

    def compute() -> NDArray[np.float32]:
        texts = []
        for text in request.texts:
            parts = parts_of(text, embedder.count_tokens, room)
            texts += [part.text for part in parts]
            tokens.append([part.size + embedder.max_tokens - room for part in parts])
        embed = embedder.embed_queries if request.kind == "query" else embedder.embed_documents
        return embed(texts, low_priority=request.is_low_priority)

    return _answer(request.id, compute, tokens)


def _rerank(reranker: Reranker | None, request: Rerank) -> EncoderReply:
    if reranker is None:
        return EncoderReply(request.id, error='no reranker is loaded; name one: reranker = "FOLDER"')
    tokens: list[list[int]] = []

    def compute() -> NDArray[np.float32]:
        tokens.append(reranker.count_tokens(request.query, request.texts))
        return reranker.rerank(request.query, request.texts)

    return _answer(request.id, compute, tokens)


def _open_previous(files: ModelFiles | None, num_threads: int) -> tuple[Embedder | None, str | None]:
    """The embedder, or why there is none. Its files may be gone or not to be read: then questions do without."""
    if files is None:
        return None, None
    try:
        previous = open_embedder(files, num_threads)
        previous.embed_queries(["warm up"])
    except Exception as error:  # whatever a runtime raises
        return None, (str(error).splitlines() or [type(error).__name__])[0]
    return previous, None


def _serve(inbox: Inbox[ToEncoder]) -> None:
    messages = iter(inbox)
    load = next(messages, None)
    if not isinstance(load, LoadEncoder):
        return
    embedder = open_embedder(load.embedder, load.num_threads)
    embedder.embed_queries(["warm up"])  # the first call pays for lazy set-up; not the first question
    reranker = open_reranker(load.reranker, load.num_threads) if load.reranker else None
    previous, reason = _open_previous(load.previous, load.num_threads)
    card = EmbedderInfo(previous.fingerprint, previous.dimension) if previous else None
    inbox.send(
        EncoderReady(
            dimension=embedder.dimension,
            fingerprint=embedder.fingerprint,
            max_tokens=embedder.max_tokens,
            has_reranker=reranker is not None,
            has_probabilities=reranker is not None and reranker.has_probabilities,
            previous=card,
            previous_error=reason,
        )
    )
    with (  # no question waits for a reranking, or for a client's texts
        ThreadPoolExecutor(1, thread_name_prefix="rerank") as reranking,
        ThreadPoolExecutor(1, thread_name_prefix="bulk", initializer=give_way) as bulk,
    ):
        for message in messages:
            if isinstance(message, Embed):
                inbox.send(_embed(previous if message.use_previous else embedder, message))
            elif isinstance(message, EmbedParts):
                if message.is_low_priority:
                    bulk.submit(lambda request: inbox.send(_embed_parts(embedder, request)), message)
                else:
                    inbox.send(_embed_parts(embedder, message))
            elif isinstance(message, UnloadPrevious):
                previous = None
            elif isinstance(message, Rerank):
                reranking.submit(lambda request: inbox.send(_rerank(reranker, request)), message)


if __name__ == "__main__":
    child_main(_serve, ToEncoder)
