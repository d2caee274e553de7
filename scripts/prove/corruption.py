"""Damage every cache on disk at random: no damaged content is used, and every cache is restored.

    .venv/bin/python scripts/prove/corruption.py [--damages 1000] [--seed 1] [--only NAME]

The caches: generations of the vector index, of every kind; the folder of the lexical index; the converted embedding
model; prefixes of prompts. A damage is a flipped bit, a zeroed run or page, two exchanged blocks, or a file truncated,
lengthened, emptied, deleted, or replaced by another file of the cache. After each damage a reader of the cache must get
what was there before, or nothing, and the cache's owner must restore it. Prints the counts; the exit status is 1 when a
reader got anything else, or a cache was not restored.
"""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from index.dense.base_index import BaseBuilder
from index.dense.codes import Kind
from index.dense.generations import Header, read_newest, write_generation
from index.dense.vector_index import VectorIndex
from index.ingest.store import open_document_store
from index.lexical import upkeep
from index.lexical.search import LexicalSearch, lexical_folder
from index.storage.records import FileStat
from index.storage.sqlite.database import open_reader
from index.storage.vectors import ChunkVectors
from index.types import Chunk, Collection
from models.catalog import resolve_embedding
from models.encoder.embedder import open_embedder
from models.encoder.messages import ModelFiles
from models.encoder.model_exports import ModelExports
from models.errors import ModelFileError
from models.llm.kv.prefix_store import PrefixStore
from server.settings.settings import Settings

_PAGE = 4096  # bytes
_DAMAGES = ("flip", "zeros", "page", "exchange", "truncate", "lengthen", "empty", "delete", "replace")


class Cache(Protocol):
    """Files of this `pattern` in `folder` are damaged; restoring is checked after each `restore_interval` damages."""

    folder: Path
    pattern: str
    restore_interval: int

    def read(self) -> object:
        """Return what a reader that has just started gets; None where it detects that there is nothing to use."""

    def restore(self) -> None:
        """Do what the cache's owner does when it starts."""


class Generations:
    """A generation and the one before it. Reading the older one counts as nothing: changes are replayed on it."""

    pattern, restore_interval = "00000002.*", 1

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder = folder
        rng = np.random.default_rng(1)
        self._count, self._dimension = 2000, 384
        vectors = rng.standard_normal((self._count, self._dimension), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = np.arange(1, self._count + 1)
        self._builder = BaseBuilder(self._dimension, self._count, vectors, kind)
        self._builder.add(ChunkVectors(ids, ids % 3, vectors))
        self._question = vectors[7]
        self._write(1)
        self._write(2)

    def _write(self, seq: int) -> None:
        header = Header("db", "space", self._dimension, self._count, seq)
        write_generation(self.folder, header, self._builder.payload(), self._builder.stored_vectors())

    def read(self) -> object:
        generation = read_newest(self.folder, "db", "space", self._dimension)
        if generation is None:
            return None
        index = VectorIndex(self._dimension, generation.payload, generation.stored_vectors)
        hits = index.search(self._question, 50)
        index.close()
        return hits if generation.header.seq == 2 else None

    def restore(self) -> None:
        if self.read() is None:
            self._write(2)


class Lexical:
    """tantivy's folder with several segments. The server reads it, the indexer writes it."""

    pattern, restore_interval = "*", 1

    def __init__(self, data: Path) -> None:
        self._data = data
        self.folder = lexical_folder(data)
        chance = random.Random(1)
        words = [f"word{number}" for number in range(300)]
        self._writer = open_document_store(data)
        collection = self._writer.configure([Collection("notes", data)])["notes"]
        for number in range(300):
            text = " ".join(chance.choices(words, k=30))
            chunk = Chunk(text, (), 0, len(text), 1, 1)
            self._writer.replace(collection, f"{number}.md", FileStat(1, 1), "x", None, [chunk])
        upkeep._BLOCK = 100  # restoring then gives the same segments, and the same scores
        self.restore()

    def read(self) -> object:
        reader, search = open_reader(self._data), LexicalSearch(self._data)
        try:
            hits = [search.search(reader, f"word{number} word7", 1000, None) for number in range(0, 300, 20)]
        finally:
            reader.close()
        rounded = [sorted((id, round(score, 4)) for id, score in each) for each in hits]  # equal scores in any order
        return rounded if any(rounded) else None

    def restore(self) -> None:
        words = upkeep.LexicalUpkeep(self._writer.connection, self._data, 20, 10)
        while words.advance():
            pass
        words.close()


class ConvertedModel:
    """The converted embedding model: the encoder opens it, the server has it converted."""

    pattern, restore_interval = "*", 100

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._files = self._convert()
        assert self._files.export is not None, "the model can be converted"
        self.folder = Path(self._files.export)

    def _convert(self) -> ModelFiles:
        return asyncio.run(ModelExports(self._cache).files(resolve_embedding(Settings().embedder), "embedding"))

    def read(self) -> object:
        try:
            return open_embedder(self._files, 1).embed_queries(["How long is parental leave?"]).tobytes()
        except ModelFileError:
            return None

    def restore(self) -> None:
        self._convert()


class Prefixes:
    """Prefixes of this model and of another one. A prompt's prefix has its own state or none."""

    pattern, restore_interval = "*", 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        chance = random.Random(1)
        self._states = {n: chance.randbytes(30_000 + n) for n in range(5)}
        PrefixStore(folder, bytes(32), 1 << 30).write([1, 2, 3], chance.randbytes(40_000))
        self.restore()

    def _tokens(self, number: int) -> list[int]:
        return [number] * 50 + list(range(200 + number))

    def _open(self) -> PrefixStore:
        return PrefixStore(self.folder, bytes(range(32)), 1 << 30)

    def read(self) -> object:
        store, states = self._open(), {}
        for number, state in self._states.items():
            saved, _ = store.match([*self._tokens(number), 1])
            states[number] = None if saved is None else store.read(saved)
            if states[number] not in (None, state):
                return "another state"
        return None if None in states.values() else states

    def restore(self) -> None:
        store = self._open()
        for number, state in self._states.items():
            if not store.is_covered(self._tokens(number)):
                store.write(self._tokens(number), state)


def damage(path: Path, others: list[Path], chance: random.Random) -> str | None:
    """Damage a file and return the kind of damage; None when the file is unchanged."""
    content, kind = path.read_bytes(), chance.choice(_DAMAGES)
    if kind == "delete":
        path.unlink()
        return kind
    broken = bytearray(content)
    at, length = chance.randrange(len(content) or 1), chance.randrange(1, _PAGE)
    match kind:
        case "flip" if content:
            broken[at] ^= 1 << chance.randrange(8)
        case "zeros":
            broken[at : at + length] = bytes(len(broken[at : at + length]))
        case "page":
            start = at // _PAGE * _PAGE
            broken[start : start + _PAGE] = bytes(len(broken[start : start + _PAGE]))
        case "exchange":
            other = chance.randrange(len(content) or 1)
            size = min(length, len(content) - max(at, other))
            first, second = content[at : at + size], content[other : other + size]
            broken[at : at + size], broken[other : other + size] = second, first
        case "truncate":
            del broken[at:]
        case "lengthen":
            broken += chance.randbytes(length)
        case "empty":
            broken.clear()
        case "replace" if others:
            similar = [other for other in others if other.suffix == path.suffix]
            broken[:] = chance.choice(similar or others).read_bytes()
    if broken == content:
        return None
    path.write_bytes(broken)
    return kind


def prove(name: str, cache: Cache, num_damages: int, chance: random.Random) -> bool:
    """Damage a cache so many times, print the counts, and return whether every check held."""
    expected = cache.read()
    assert expected is not None, f"{name} is empty"
    damages: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(cache.folder, Path(folder, "copy"))
        names = sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file())
        while damages.total() < num_damages:
            file = cache.folder / chance.choice([name for name in names if name.match(cache.pattern)])
            others = [cache.folder / other for other in names if cache.folder / other != file]
            kind = damage(file, others, chance)
            if kind is None:
                continue
            damages[kind] += 1
            content = cache.read()
            if content is None or content == expected:
                outcomes["detected" if content is None else "without effect"] += 1
            else:
                problems.append(f"{file.name}, {kind}: damaged content was used")
            if damages.total() % cache.restore_interval == 0:
                cache.restore()
                outcomes["restored"] += 1
                if cache.read() != expected:
                    problems.append(f"{file.name}, {kind}: the cache was not restored")
            shutil.rmtree(cache.folder)
            shutil.copytree(copy, cache.folder)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(damages.items()))
    print(f"{name}: {damages.total()} damages ({kinds}): {dict(outcomes)}, {len(problems)} wrong", flush=True)
    for problem in problems[:20]:
        print(f"  {problem}", flush=True)
    return not problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=1000, help="for each cache")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="only caches with this text in their names")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        caches: dict[str, Callable[[], Cache]] = {
            "generations, exact": lambda: Generations(folder / "exact", "exact"),
            "generations, scalar": lambda: Generations(folder / "scalar", "scalar"),
            "generations, binary": lambda: Generations(folder / "binary", "binary"),
            "lexical index": lambda: Lexical(folder / "data"),
            "prefixes": lambda: Prefixes(folder / "prefixes"),
            "converted model": lambda: ConvertedModel(folder / "cache"),
        }
        names = [each for each in caches if options.only is None or options.only in each]
        chance = random.Random(options.seed)
        good = [prove(each, caches[each](), options.damages, chance) for each in names]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
