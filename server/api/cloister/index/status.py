"""The state of the index, once or as a stream, as far as the principal may see."""

import asyncio
import time
from collections.abc import AsyncGenerator

from index.ingest.progress import Progress
from server.api.cloister.index.wire import CurrentFile, EmbedderSwitch, IndexStatus
from server.services import Services

_MIN_INTERVAL_S = 0.5  # between two readings of the status for one listener
_MAX_LOAD = 0.1  # share of the time that is spent on reading it


async def index_status(services: Services) -> IndexStatus:
    progress = services.indexer_control.progress
    collections = await asyncio.to_thread(services.catalog.status)
    left_bytes = sum(collection.pending_bytes for collection in collections)
    has_rate = progress.activity == "indexing" and left_bytes and progress.bytes_per_s
    return IndexStatus(
        indexer=services.indexer_control.state,
        activity=progress.activity,
        current=CurrentFile(progress.collection, progress.path) if progress.collection and progress.path else None,
        files_per_s=progress.files_per_s,
        bytes_per_s=progress.bytes_per_s,
        seconds_left=round(left_bytes / progress.bytes_per_s, 1) if has_rate else None,
        lag_s=progress.lag_s,
        error=progress.error,
        switch=_embedder_switch(services, progress),
        collections=collections,
    )


async def status_changes(services: Services) -> AsyncGenerator[IndexStatus, None]:
    """Yield the status, and again whenever it has changed. Never ends."""
    last = None
    while True:
        started = time.monotonic()
        if (status := await index_status(services)) != last:
            last = status
            yield status
        await asyncio.sleep(max(_MIN_INTERVAL_S, (time.monotonic() - started) / _MAX_LOAD))


def _embedder_switch(services: Services, progress: Progress) -> EmbedderSwitch | None:
    if not services.live_retriever.is_in_previous_space:
        return None
    done, total = (progress.switch.done, progress.switch.total) if progress.switch else (None, None)
    return EmbedderSwitch(done, total, "words" if services.live_retriever.is_by_words_alone else "former")
