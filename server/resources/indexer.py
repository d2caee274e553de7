"""The indexer process, and what the server holds of it. `python -m server.resources.indexer FD`.

Where `index` and `models` are introduced to each other: the indexer embeds with an embedder of its own, so that a long
import never stands before a question. It runs only when nobody else wants the processor.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from index.ingest.commands import Command, Follow, Pause, Rescan
from index.ingest.indexer import Indexer
from index.ingest.progress import Progress
from index.params import IndexingParams
from index.priority import yield_to_others
from index.reading.sandbox import open_sandbox
from index.storage.sqlite.database import open_writer
from index.storage.sqlite.document_store import SqliteDocumentStore
from index.types import Collection
from models.client import ProcessClient, deliver_replies, open_process
from models.encoder.embedder import open_embedder
from models.encoder.messages import ModelFiles
from models.ipc import ChildFailure, Inbox, child_main
from models.offline import OFFLINE


class LoadIndexer(msgspec.Struct, tag=True, frozen=True):
    """First frame to the indexer, which answers `IndexerReady` or `ChildFailure`. Commands follow it.

    Closing the connection ends the indexer.
    """

    data: str
    roots: dict[str, str]  # collection: folder
    embedder: ModelFiles
    params: IndexingParams


class IndexerReady(msgspec.Struct, tag=True, frozen=True):
    """The database is there and of this version."""

    fingerprint: str


ToIndexer = LoadIndexer | Follow | Pause | Rescan
FromIndexer = IndexerReady | Progress | ChildFailure


class IndexerClient(ProcessClient[IndexerReady, None]):
    """`progress` is what it last said of its work."""

    progress = Progress()

    async def tell(self, order: Command) -> None:
        """Raises `ProcessFailed` when the process is gone."""
        await self._child.send(order)

    def note(self, frame: Any) -> tuple[()]:
        """Takes in a frame; none is a reply to anybody."""
        if isinstance(frame, Progress):
            self.progress = frame
        return ()


def _serve(inbox: Inbox[ToIndexer]) -> None:
    load = next(iter(inbox), None)
    if not isinstance(load, LoadIndexer):
        return
    yield_to_others()
    data = Path(load.data)
    writer = SqliteDocumentStore(open_writer(data))
    collections = [Collection(name, Path(root)) for name, root in load.roots.items()]
    embedder = open_embedder(load.embedder, load.params.num_threads)
    with contextlib.closing(writer), open_sandbox() as reading:
        origin = msgspec.json.encode(load.embedder).decode()
        indexer = Indexer(collections, writer, embedder, load.params, data, reading.read, inbox.send, origin)
        inbox.send(IndexerReady(embedder.fingerprint))
        indexer.run(inbox.closed, lambda: [order for order in inbox.take() or () if not isinstance(order, LoadIndexer)])


@contextlib.asynccontextmanager
async def open_indexer(
    data: Path, collections: list[Collection], embedder: ModelFiles, params: IndexingParams
) -> AsyncIterator[IndexerClient]:
    """Starts the indexer and waits until it follows the folders; `ProcessFailed` says why it does not."""
    load = LoadIndexer(str(data), {c.name: str(c.root) for c in collections}, embedder, params)
    opening = open_process("indexer", "server.resources.indexer", FromIndexer, OFFLINE, load, IndexerReady)
    async with opening as (child, ready):
        client = IndexerClient(child, ready, lambda frame: client.note(frame))
        async with deliver_replies(client):
            yield client


if __name__ == "__main__":
    child_main(_serve, ToIndexer)
