"""The indexer process and the server's client of it. Its entry point is `python -m server.resources.indexer FD`.

The process indexes with an embedder of its own, so that a question never waits for a long import, and at idle priority:
it runs when nobody else wants the processor. Here, and in `server/composition.py`, `index` meets `models`.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from index.ingest.commands import Command, Follow, Pause, Rescan
from index.ingest.indexer import Indexer
from index.ingest.progress import Progress
from index.ingest.store import open_document_store
from index.params import IndexingParams
from index.priority import yield_to_others
from index.reading.sandbox import open_sandbox
from index.types import Collection
from models.client import ProcessClient, deliver_replies, open_process
from models.encoder.embedder import open_embedder
from models.encoder.messages import ModelFiles
from models.ipc import ChildFailure, Inbox, child_main
from models.offline import OFFLINE


class LoadIndexer(msgspec.Struct, tag=True, frozen=True):
    """The first frame to the indexer, which answers with `IndexerReady` or `ChildFailure`; commands follow.

    Closing the connection ends the indexer.
    """

    data: str
    roots: dict[str, str]  # folders by collection
    embedder: ModelFiles
    params: IndexingParams


class IndexerReady(msgspec.Struct, tag=True, frozen=True):
    """The database exists with the tables of this version, and the folders are followed."""

    fingerprint: str


ToIndexer = LoadIndexer | Follow | Pause | Rescan
FromIndexer = IndexerReady | Progress | ChildFailure


class IndexerClient(ProcessClient[IndexerReady, None]):
    """Sends commands to the indexer. `progress` is its last report."""

    progress = Progress()

    async def send(self, command: Command) -> None:
        """Send a command, which is not answered. Raises `ProcessFailed` when the process is gone."""
        await self._child.send(command)

    def receive(self, frame: Any) -> tuple[()]:
        """Take in a frame from the process, and return the replies in it: none, since nothing asks for one."""
        if isinstance(frame, Progress):
            self.progress = frame
        return ()


def _run(inbox: Inbox[ToIndexer]) -> None:
    """Index until the server closes the connection. Runs in the indexer process."""
    load = next(iter(inbox), None)
    if not isinstance(load, LoadIndexer):
        return
    yield_to_others()
    data = Path(load.data)
    store = open_document_store(data)
    collections = [Collection(name, Path(root)) for name, root in load.roots.items()]
    embedder = open_embedder(load.embedder, load.params.num_threads)
    with contextlib.closing(store), open_sandbox() as sandbox:
        origin = msgspec.json.encode(load.embedder).decode()
        indexer = Indexer(collections, store, embedder, load.params, data, sandbox.read, inbox.send, origin)
        inbox.send(IndexerReady(embedder.fingerprint))
        indexer.run(inbox.closed, lambda: _take_commands(inbox))


def _take_commands(inbox: Inbox[ToIndexer]) -> list[Command]:
    return [frame for frame in inbox.take() or () if not isinstance(frame, LoadIndexer)]


@contextlib.asynccontextmanager
async def open_indexer(
    data: Path, collections: list[Collection], embedder: ModelFiles, params: IndexingParams
) -> AsyncIterator[IndexerClient]:
    """Start the indexer and wait until it follows the folders. Raises `ProcessFailed` when it does not."""
    load = LoadIndexer(str(data), {c.name: str(c.root) for c in collections}, embedder, params)
    opening = open_process("indexer", "server.resources.indexer", FromIndexer, OFFLINE, load, IndexerReady)
    async with opening as (child, ready):
        client = IndexerClient(child, ready, lambda frame: client.receive(frame))
        async with deliver_replies(client):
            yield client


if __name__ == "__main__":
    child_main(_run, ToIndexer)
