"""The lines that `cloister serve` prints while the server starts and when it is ready."""

import asyncio
import re
import time
from typing import Final

from server.access.hosts import is_open
from server.services import Services
from server.settings.settings import MANUAL

_FIRST_INDEX_S = 15.0  # for which the announcement waits for the folders to be indexed
_POLL_S = 0.2
_QUOTES: Final = re.compile(r"[\"'\\\x00-\x1f\x7f-\x9f]")
_JSON_HEADER = "-H 'Content-Type: application/json'"
_READY = """
Ready:  {address}/v1 – an OpenAI API; the model is "cloister"
Page:   {address}/ – to ask in a browser
Ask:    curl {address}/v1/chat/completions {header} -d '{{"messages": [{{"role": "user", "content": "{question}"}}]}}'
Index:  {index} – {address}/v1/index/status"""


async def announce(services: Services, address: str) -> None:
    """Print each step of the start, then the addresses and an example request.

    Raises the error of a process that cannot be started at all.
    """
    host = services.settings.host
    if is_open(host):
        print_line(f"Listening on {host}, unencrypted: whoever can read the network traffic can read keys and answers.")
    print_line(f"Loading {services.pool.default.name} and {services.settings.embedder} …")
    await asyncio.gather(services.pool.default.wait_until_loaded(), services.encoder.first(), services.indexer.first())
    folders = ", ".join(f"{c.name} ({c.root})" for c in services.collections) or "no folder; name one with --docs DIR"
    print_line(f"Indexing {folders} …")
    is_indexed = await _wait_for_index(services)
    question, index = await _example_question(services), await _index_summary(services, is_indexed=is_indexed)
    print_line(_READY.format(address=address, header=_JSON_HEADER, question=question, index=index))


async def _wait_for_index(services: Services) -> bool:
    """Wait until all folders are indexed, for a while; return whether they are."""
    deadline = time.monotonic() + _FIRST_INDEX_S
    while not (is_indexed := await _is_indexed(services)) and time.monotonic() < deadline:
        if services.indexer_control.progress.activity == "paused":
            break
        await asyncio.sleep(_POLL_S)
    return is_indexed


async def _is_indexed(services: Services) -> bool:
    statuses = await asyncio.to_thread(services.catalog.status)
    is_complete = len(statuses) == len(services.collections)
    return is_complete and all(status.scanned_at and not status.pending for status in statuses)


async def _example_question(services: Services) -> str:
    """Return a question that the documents answer, and that needs no quoting in a shell's string or in JSON."""
    if [collection.root for collection in services.collections] == [MANUAL.resolve()]:
        return "How do I watch my own folder?"
    topic = await asyncio.to_thread(services.catalog.topic)
    return f"What about {_QUOTES.sub('', topic or 'it')}?"


async def _index_summary(services: Services, *, is_indexed: bool) -> str:
    statuses = await asyncio.to_thread(services.catalog.status)
    num_documents, num_pending = sum(s.documents for s in statuses), sum(s.pending for s in statuses)
    num_failed = sum(len(s.failed) for s in statuses)
    parts = [f"{num_documents} document{'s' * (num_documents != 1)} indexed"]
    if not is_indexed:
        parts.append(f"{num_pending} queued")
    if num_failed:
        parts.append(f"{num_failed} failed")
    return ", ".join(parts)


def print_line(line: str) -> None:
    print(line, flush=True)
