"""Kill the real indexer process (SIGKILL) at random instants while one embedding model replaces another.

    .venv/bin/python scripts/prove/switches.py [--kills 100] [--seed 1] [--files 300]

Two models take turns: the built-in one, and the same with a prompt, which is another vector space. Some kills come
before a switch is complete, some before the old vectors are deleted. After each kill the vector space that the database
names must be complete, and questions searched in it must have exactly the hits that they had when it was first
complete. Prints the figures; the exit status is 1 when something was missing or different.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from index.params import IndexingParams
from index.search.retriever import Retriever
from index.storage.sqlite.catalog import SqliteCatalog
from index.storage.sqlite.database import open_reader, query
from index.types import Query
from models.catalog import ResolvedModel, resolve_embedding
from models.encoder.embedder import Embedder, open_embedder
from models.encoder.messages import ModelFiles
from models.encoder.model_exports import ModelExports
from models.ipc import open_child
from models.offline import OFFLINE
from server.resources.indexer import FromIndexer, LoadIndexer
from server.settings.settings import Settings

_QUESTIONS = [f"Where was the kestrel number {number} seen?" for number in range(0, 300, 30)]
_MAX_SWITCH_S = 60.0  # that a switch may take without a kill


class PreparedModel(NamedTuple):
    files: ModelFiles
    embedder: Embedder


class QuestionEmbedder:
    """Embeds questions as the encoder does."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def embed_queries(self, texts: object) -> np.ndarray:
        return self._embedder.embed_queries(texts)  # type: ignore[arg-type]


async def prepare_models(folder: Path) -> list[PreparedModel]:
    """Return the built-in model, and the same with a prompt."""
    first = resolve_embedding(Settings().embedder)
    other = shutil.copytree(first.path, folder / "other")
    config = other / "config_sentence_transformers.json"
    settings = msgspec.json.decode(config.read_bytes())
    config.write_bytes(msgspec.json.encode({**settings, "prompts": {"query": "question: ", "document": "note: "}}))
    exports = ModelExports(folder / "cache")
    models = [await exports.files(each, "embedding") for each in (first, ResolvedModel("other", other, None))]
    return [PreparedModel(files, open_embedder(files)) for files in models]


async def search_questions(data: Path, model: PreparedModel) -> list[list[tuple[str, float | None]]]:
    """Return the paths and cosines of the hits of each question."""
    with Retriever(data, model.embedder.fingerprint, model.embedder.dimension) as retriever:
        answers = [await retriever.search([Query(each)], QuestionEmbedder(model.embedder), 20) for each in _QUESTIONS]
    return [[(p.path, None if p.similarity is None else round(p.similarity, 4)) for p in each] for each in answers]


def state(data: Path) -> tuple[str | None, int, bool]:
    """Return the space that is searched, the number of chunks that lack a vector in it, and whether it is alone."""
    space = SqliteCatalog(data).vector_space()
    if space is None:
        return None, 0, False
    reader = open_reader(data)
    try:
        ((num_missing,),) = query(
            reader,
            "SELECT count(*) FROM chunks WHERE content_hash NOT IN"
            " (SELECT content_hash FROM vectors WHERE fingerprint = ?)",
            (space.fingerprint,),
        )
        others = query(reader, "SELECT 1 FROM properties WHERE name = 'other_spaces'")
    finally:
        reader.close()
    return space.fingerprint, num_missing, not others


async def live(load: LoadIndexer, seconds: float, until: str | None = None) -> bool:
    """Run the indexer and kill it after so many seconds, or sooner when `until` is the only space."""
    data = Path(load.data)
    async with open_child("indexer", "server.resources.indexer", FromIndexer, OFFLINE) as child:
        await child.send(load)
        end = time.monotonic() + seconds
        while time.monotonic() < end and (until is None or state(data) != (until, 0, True)):
            await asyncio.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        with contextlib.suppress(Exception):
            async for _ in child.frames():
                pass
    return state(data)[0] == until


async def prove(folder: Path, num_kills: int, num_files: int, chance: random.Random) -> int:
    models = await prepare_models(folder)
    data, root = folder / "data", folder / "root"
    root.mkdir()
    for number in range(num_files):
        (root / f"{number}.md").write_text(f"# Note {number}\n\nThe kestrel number {number} was seen at dawn.\n")
    loads = [LoadIndexer(str(data), {"notes": str(root)}, each.files, IndexingParams(settle_s=0.1)) for each in models]
    by_name = {each.embedder.fingerprint: each for each in models}

    def is_read() -> bool:
        reader = open_reader(data)
        try:
            return query(reader, "SELECT count(*) FROM documents WHERE state = 'indexed'") == [(num_files,)]
        finally:
            reader.close()

    await live(loads[0], 5)
    while not is_read():
        await live(loads[0], 5)
    expected, wrong, switches, sweeps, target = {}, 0, 0, 0, 0
    for name, model in by_name.items():
        await live(loads[models.index(model)], _MAX_SWITCH_S, until=name)
        expected[name] = await search_questions(data, model)
        assert state(data) == (name, 0, True), "a switch without a kill must complete"
    for number in range(1, num_kills + 1):
        name = models[target].embedder.fingerprint
        seconds = chance.uniform(10, 12) if number % 10 == 0 else chance.uniform(0.5, 6)  # old vectors stay for 10 s
        before = state(data)[0]
        await live(loads[target], seconds, until=name)
        now, num_missing, is_alone = state(data)
        assert now is not None, "the vector space is lost"
        if num_missing or await search_questions(data, by_name[now]) != expected[now]:
            wrong += 1
            print(f"kill {number}: {num_missing} chunks lack a vector, or the hits differ", flush=True)
        switches, sweeps = switches + (now != before), sweeps + is_alone
        if (now == name and chance.random() < 0.5) or chance.random() < 0.1:
            target = 1 - target
    print(
        f"{num_kills} kills, {switches} switches of {num_files} documents, {sweeps} times with the old vectors deleted:"
        f" {wrong} wrong"
    )
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(prove(Path(folder), options.kills, options.files, random.Random(options.seed)))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
