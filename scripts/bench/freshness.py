"""Measure how soon a saved file is found, how long a scan without changes takes, and the cost of watching when idle.

    .venv/bin/python scripts/bench/freshness.py [--files 10000] [--scanned 100000] [--saves 100] [--out results.json]

The real indexer process with the real embedding model, at its low priority, watches a folder of `--files`; a retriever
that catches up as in the server searches for a word of the saved file until it is found. The idle indexer's processor
time is measured over 30 s. A folder of `--scanned` files is scanned in this process.
"""

import argparse
import asyncio
import contextlib
import random
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import measurement
from real_server import cpu_s

from index.ingest.files import list_files
from index.ingest.indexer import Indexer
from index.ingest.store import open_document_store
from index.params import IndexingParams
from index.reading.readers import read
from index.search.retriever import Retriever
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import Collection, Query
from models.catalog import resolve_embedding
from models.encoder.client import EncoderClient, open_encoder
from models.encoder.embedder import open_embedder
from models.encoder.messages import ModelFiles
from models.encoder.model_exports import ModelExports
from models.threads import num_physical_cores
from server.resources.indexer import IndexerClient, open_indexer
from server.settings.settings import Settings

_IDLE_S = 30.0
_CATCH_UP_INTERVAL_S = 0.5  # the server's


def fill(root: Path, count: int) -> None:
    """Write short notes from a vocabulary of a hundred words, a hundred notes to a folder."""
    chance, words = random.Random(1), [f"word{number}" for number in range(100)]
    for number in range(count):
        if number % 100 == 0:
            (root / f"{number // 100}").mkdir(parents=True)
        text = f"# Note {number}\n\n{' '.join(chance.choices(words, k=12))}\n"
        (root / f"{number // 100}" / f"{number}.md").write_text(text)


@contextlib.asynccontextmanager
async def catching_up(retriever: Retriever) -> AsyncIterator[None]:
    """Let the retriever catch up with the index at an interval."""

    async def catch_up() -> None:
        while True:
            await retriever.catch_up()
            await asyncio.sleep(_CATCH_UP_INTERVAL_S)

    task = asyncio.create_task(catch_up())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def freshness(root: Path, retriever: Retriever, encoder: EncoderClient, saves: int, count: int) -> list[float]:
    """Edit existing files; return the seconds from the end of each save to the search that finds it."""
    chance, seconds = random.Random(2), []
    for number in range(saves):
        target = chance.randrange(count)
        file, word = root / f"{target // 100}" / f"{target}.md", f"kestrel{number}x"
        temporary = file.with_name(f".{file.name}.swp")
        temporary.write_text(f"# Note {target}\n\nThe {word} was seen at dawn.\n")
        temporary.replace(file)
        saved = time.perf_counter()
        while not any(word in passage.text for passage in await retriever.search([Query(word)], encoder, 5)):
            await asyncio.sleep(0.02)
        seconds.append(time.perf_counter() - saved)
        await asyncio.sleep(chance.random())
    return seconds


async def idle_share(client: IndexerClient) -> float:
    """Return the share of a core that the indexer uses while nothing changes."""
    await asyncio.sleep(5)
    before = cpu_s(client.pid)
    await asyncio.sleep(_IDLE_S)
    return (cpu_s(client.pid) - before) / _IDLE_S


async def measure_indexer(folder: Path, embedder: ModelFiles, num_files: int, saves: int) -> dict[str, Any]:
    data, root = folder / "data", folder / "root"
    fill(root, num_files)
    params = IndexingParams(num_threads=num_physical_cores())
    started = time.perf_counter()
    async with (
        open_indexer(data, [Collection("notes", root)], embedder, params) as client,
        open_encoder(embedder) as encoder,
    ):
        while not (
            (status := SqliteCatalog(data).status()) and status[0].documents == num_files and not status[0].pending
        ):
            await asyncio.sleep(0.5)
        import_s = time.perf_counter() - started
        with Retriever(data, encoder.ready.fingerprint, encoder.ready.dimension) as retriever:
            async with catching_up(retriever):
                seconds = await freshness(root, retriever, encoder, saves, num_files)
        idle = await idle_share(client)
    p50, p95 = measurement.percentiles(seconds)
    return {
        "import of the files, s": import_s,
        "save to found, p50, s": p50,
        "save to found, p95, s": p95,
        "save to found, slowest, s": max(seconds),
        "idle, % of a core": 100 * idle,
    }


def scan(folder: Path, embedder: ModelFiles, count: int) -> dict[str, Any]:
    """Measure scans of an indexed folder in which nothing has changed."""
    root = folder / "scanned"
    fill(root, count)
    writer = open_document_store(folder / "scan data")
    with contextlib.closing(writer):
        model = open_embedder(embedder, 1)
        indexer = Indexer([Collection("notes", root)], writer, model, IndexingParams(), folder / "scan data", read)
        with contextlib.closing(indexer):
            collection = writer.configure([Collection("notes", root)])["notes"]
            files = list_files(root).files
            writer.mark_pending(collection, files)
            writer.mark_unchanged((collection, path, stat) for path, stat in files)
            seconds = []
            for _ in range(5):
                before = time.perf_counter()
                indexer.scan()
                seconds.append(time.perf_counter() - before)
            assert indexer.work() == 0, "the scan reported changes"
    return {
        "scan of unchanged files, s": statistics.median(seconds),
        "peak memory of the scanning process, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings()
    exports = ModelExports(settings.cache_folder, settings.encoder.runtime)
    embedder = await exports.files(resolve_embedding(settings.embedder), "embedding")
    with tempfile.TemporaryDirectory() as folder:
        scanned = scan(Path(folder), embedder, options.scanned)
        return {**await measure_indexer(Path(folder), embedder, options.files, options.saves), **scanned}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--scanned", type=int, default=100_000)
    parser.add_argument("--saves", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    measurement.print_machine()
    results = asyncio.run(measure(options))
    print(f"| {options.files:,} files, {options.saves} saves; {options.scanned:,} scanned | |\n| --- | --- |")
    print("\n".join(f"| {name} | {value:.2f} |" for name, value in results.items()))
    measurement.write_results(options.out, results)


if __name__ == "__main__":
    main()
