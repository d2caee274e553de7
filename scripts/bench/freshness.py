"""How soon a saved file is found, how long a scan takes that finds nothing, and what watching costs when idle.

    .venv/bin/python scripts/bench/freshness.py [--files 10000] [--scanned 100000] [--saves 100] [--out results.json]

The real indexer process with the real embedding model, at its idle priority, over a folder of so many files; a
retriever as the server has it searches for a word of the saved file until it is found. Then a folder of so many files
is scanned in this process, and the idle indexer's processor time is read over 30 s.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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
_FOLLOW_S = 0.5  # as the server does


def fill(root: Path, count: int) -> None:
    """Short notes in a hundred words, a hundred to a folder."""
    chance, words = random.Random(1), [f"word{number}" for number in range(100)]
    for number in range(count):
        if number % 100 == 0:
            (root / f"{number // 100}").mkdir(parents=True)
        text = f"# Note {number}\n\n{' '.join(chance.choices(words, k=12))}\n"
        (root / f"{number // 100}" / f"{number}.md").write_text(text)


@contextlib.asynccontextmanager
async def following(retriever: Retriever) -> AsyncIterator[None]:
    async def follow() -> None:
        while True:
            await retriever.catch_up()
            await asyncio.sleep(_FOLLOW_S)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def freshness(root: Path, retriever: Retriever, encoder: EncoderClient, saves: int, count: int) -> list[float]:
    """Seconds from the end of a save to the search that finds it, for edits of files that are there."""
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


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def idle_share(client: IndexerClient) -> float:
    await asyncio.sleep(5)
    before = cpu_s(client.pid)
    await asyncio.sleep(_IDLE_S)
    return (cpu_s(client.pid) - before) / _IDLE_S


async def live(folder: Path, embedder: ModelFiles, num_files: int, saves: int) -> dict[str, Any]:
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
        imported = time.perf_counter() - started
        with Retriever(data, encoder.ready.fingerprint, encoder.ready.dimension) as retriever:
            async with following(retriever):
                seconds = sorted(await freshness(root, retriever, encoder, saves, num_files))
        idle = await idle_share(client)
    return {
        "import of the files, s": imported,
        "save to found, p50, s": statistics.median(seconds),
        "save to found, p95, s": seconds[int(0.95 * len(seconds))],
        "save to found, slowest, s": seconds[-1],
        "idle, % of a core": 100 * idle,
    }


def scan(folder: Path, embedder: ModelFiles, count: int) -> dict[str, Any]:
    """Of a folder that is known, with nothing changed."""
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
            assert indexer.work() == 0, "the scan found something"
    return {
        "scan of unchanged files, s": statistics.median(seconds),
        "peak memory of the scanning process, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings()
    preparation = ModelExports(settings.cache_folder, settings.encoder.runtime)
    embedder = await preparation.files(resolve_embedding(settings.embedder), "embedding")
    with tempfile.TemporaryDirectory() as folder:
        scanned = scan(Path(folder), embedder, options.scanned)
        return {**await live(Path(folder), embedder, options.files, options.saves), **scanned}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--scanned", type=int, default=100_000)
    parser.add_argument("--saves", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(f"{platform.machine()}, {num_physical_cores()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    results = asyncio.run(measure(options))
    print(f"| {options.files:,} files, {options.saves} saves; {options.scanned:,} scanned | |\n| --- | --- |")
    print("\n".join(f"| {name} | {value:.2f} |" for name, value in results.items()))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
