"""The encoder process: query embeddings at normal priority. `python -m models.encoder.process FD`."""

from pathlib import Path

from models.encoder.embedder import Embedder
from models.encoder.messages import Embed, Embedded, Load, Ready, ToEncoder
from models.ipc import Inbox, child_main


def _answer(embedder: Embedder, request: Embed) -> Embedded:
    embed = embedder.embed_queries if request.kind == "query" else embedder.embed_documents
    try:
        return Embedded(request.id, embed(request.texts).astype("<f4").tobytes())
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        return Embedded(request.id, error=str(error))


def _serve(inbox: Inbox[ToEncoder]) -> None:
    messages = iter(inbox)
    load = next(messages, None)
    if not isinstance(load, Load):
        return
    embedder = Embedder(Path(load.path), load.num_threads)
    embedder.embed_queries(["warm up"])  # the first call pays for lazy set-up; not the first question
    inbox.send(Ready(embedder.dimension, embedder.fingerprint, embedder.max_tokens))
    for message in messages:
        if isinstance(message, Embed):
            inbox.send(_answer(embedder, message))


if __name__ == "__main__":
    child_main(_serve, ToEncoder)
