"""Measure how fast a folder is indexed: by stage, with memory, and against a plain LangChain + FAISS script.

    .venv/bin/python scripts/bench/indexing.py --files FOLDER [--vs PYTHON] [--rounds 3] [--out results.json]

PYTHON is one that can run scripts/bench/langchain_baseline.py, on the same files with the same embedding model. Runs
take turns, each in a new process with an empty index. Cloister runs its real indexer, with sandboxed readers, as many
threads as there are cores, and normal priority. Loading the models is not measured on either side.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import measurement

from index.ingest.chunker import Chunker
from index.ingest.indexer import Indexer
from index.ingest.store import open_document_store
from index.params import IndexingParams
from index.reading.sandbox import open_sandbox
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import Collection
from models.catalog import resolve_embedding
from models.encoder.embedder import open_embedder
from models.encoder.model_exports import ModelExports
from models.threads import num_physical_cores
from server.settings.settings import Settings

EMBEDDER = "all-MiniLM-L6-v2"


class Stages:
    """Seconds spent in each stage by the thread that runs them one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, owner: Any, method: str, stage: str) -> None:
        """Replace a method by one that adds its duration to a stage."""
        work: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

        setattr(owner, method, timed)


def index(folder: Path) -> dict[str, Any]:
    """Index a folder in this process into an empty index, and return the figures."""
    cores = num_physical_cores()
    settings = Settings()
    embedding = resolve_embedding(EMBEDDER)
    files = asyncio.run(ModelExports(settings.cache_folder, settings.encoder.runtime).files(embedding, "embedding"))
    embedder = open_embedder(files, cores)
    stages = Stages()
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        writer = open_document_store(data)
        stack.callback(writer.close)
        sandbox = stack.enter_context(open_sandbox())
        params = IndexingParams(num_threads=cores, chunk_tokens=embedding.chunk_tokens)
        indexer = Indexer([Collection("files", folder)], writer, embedder, params, data, sandbox.read)
        stages.time(Chunker, "chunks", "chunk")
        stages.time(embedder, "embed_documents", "embed")
        stages.time(writer, "replace", "commit")
        stages.time(writer, "store_vectors", "commit")
        started = time.perf_counter()
        stages.time(indexer, "scan", "scan")
        indexer.scan()
        stages.time(indexer, "write_generation", "generation")
        stages.time(indexer.upkeep, "index_words", "words")
        while indexer.upkeep.index_words() or indexer.work():
            pass
        indexer.write_generation()
        seconds = time.perf_counter() - started
        (status,) = SqliteCatalog(data).status()
        chunks = writer.last_change()
        indexer.close()
    stages.seconds["read, and the rest"] = seconds - sum(stages.seconds.values())
    return {
        "seconds": seconds,
        "files": status.documents,
        "failed": len(status.failed),
        "chunks": chunks,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "stages": stages.seconds,
    }


def run(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        raise SystemExit(f"{command[0]}: {process.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return result


def table(results: dict[str, list[dict[str, Any]]], num_bytes: int) -> str:
    rows = ["| contender | seconds | files/s | kB/s | chunks | peak memory, MB |", "| --- " * 6 + "|"]
    for name, runs in results.items():
        seconds = statistics.median(each["seconds"] for each in runs)
        last = runs[-1]
        peak = max(each["peak_bytes"] for each in runs) / 1e6
        rates = f"{last['files'] / seconds:.0f} | {num_bytes / 1000 / seconds:.0f}"
        rows.append(f"| {name} | {seconds:.1f} | {rates} | {last['chunks']} | {peak:.0f} |")
    stages = results["cloister"][-1]["stages"]
    rows += ["", "| stage | seconds |", "| --- | --- |", *(f"| {name} | {each:.2f} |" for name, each in stages.items())]
    if "langchain" in results:
        ours, theirs = (statistics.median(each["seconds"] for each in results[n]) for n in ("cloister", "langchain"))
        rows += ["", f"{theirs / ours:.2f} times as fast as the LangChain script"]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--vs", help="a Python that can run langchain_baseline.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(index(options.files)))
        return
    measurement.print_machine()
    contenders = {"cloister": [sys.executable, __file__, "--files", str(options.files), "--once"]}
    if options.vs:
        script = str(Path(__file__).with_name("langchain_baseline.py"))
        contenders["langchain"] = [options.vs, script, str(options.files), str(resolve_embedding(EMBEDDER).path)]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for name in measurement.take_turns(list(contenders), options.rounds):
        results[name].append(run(contenders[name]))
    num_bytes = sum(path.stat().st_size for path in options.files.rglob("*") if path.is_file())
    print(table(results, num_bytes))
    measurement.write_results(options.out, results)


if __name__ == "__main__":
    main()
