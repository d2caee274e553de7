"""Random damages to every cache on disk: none is believed, whatever was damaged is made again.

    .venv/bin/python scripts/prove/corruption.py [--damages 1000] [--seed 1] [--only NAME]

The caches: generations of the vector index, of every kind; the folder of the lexical index; the conversion of the
embedding model; prefixes of prompts. A damage is a bit flipped, a run or a page zeroed, two blocks exchanged, the file
cut short, lengthened, emptied, removed, or replaced by another file of the cache. After each, who reads the cache must
find what was there before, or nothing; and who makes it must bring it back. Prints the counts; exits 1 when something
else was found, or nothing came back.
"""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
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
_DAMAGES = ("flip", "zeros", "page", "exchange", "cut", "longer", "empty", "removed", "other")


class Cache(Protocol):
    """`folder` is what is damaged, in files of this `pattern`. `remade_every`: making it anew is tried after each so
    many damages."""

    folder: Path
    pattern: str
    remade_every: int

    def read(self) -> object:
        """What a reader that has just started finds; None: nothing, and it knows."""

    def make(self) -> None:
        """What its owner does about what it finds, when it starts."""


class Generations:
    """A generation and the one before it. Finding the older one is finding nothing: changes are replayed on it."""

    pattern, remade_every = "00000002.*", 1

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
        index = VectorIndex(self._dimension, generation.payload, generation.stored)
        found = index.search(self._question, 50)
        index.close()
        return found if generation.header.seq == 2 else None

    def make(self) -> None:
        if self.read() is None:
            self._write(2)


class Lexical:
    """tantivy's folder, of several segments. Read by the server, made by the indexer."""

    pattern, remade_every = "*", 1

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
        upkeep._BLOCK = 100  # so that what is made again has the same segments, and the same scores
        self.make()

    def read(self) -> object:
        reader, search = open_reader(self._data), LexicalSearch(self._data)
        try:
            hits = [search.search(reader, f"word{number} word7", 1000, None) for number in range(0, 300, 20)]
        finally:
            reader.close()
        found = [sorted((id, round(score, 4)) for id, score in each) for each in hits]  # equal ones in any order
        return found if any(found) else None

    def make(self) -> None:
        words = upkeep.LexicalUpkeep(self._writer.connection, self._data, 20, 10)
        while words.advance():
            pass
        words.close()


class Conversion:
    """The embedding model's, as the encoder opens it and the server has it made."""

    pattern, remade_every = "*", 100

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._files = self._prepared()
        assert self._files.export is not None, "it can be converted"
        self.folder = Path(self._files.export)

    def _prepared(self) -> ModelFiles:
        return asyncio.run(ModelExports(self._cache).files(resolve_embedding(Settings().embedder), "embedding"))

    def read(self) -> object:
        try:
            return open_embedder(self._files, 1).embed_queries(["How long is parental leave?"]).tobytes()
        except ModelFileError:
            return None

    def make(self) -> None:
        self._prepared()


class Prefixes:
    """Prefixes of this model and another's. What is found of a prompt is its own state or nothing."""

    pattern, remade_every = "*", 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        chance = random.Random(1)
        self._states = {n: chance.randbytes(30_000 + n) for n in range(5)}
        PrefixStore(folder, bytes(32), 1 << 30).write([1, 2, 3], chance.randbytes(40_000))
        self.make()

    def _tokens(self, number: int) -> list[int]:
        return [number] * 50 + list(range(200 + number))

    def _open(self) -> PrefixStore:
        return PrefixStore(self.folder, bytes(range(32)), 1 << 30)

    def read(self) -> object:
        store, found = self._open(), {}
        for number, state in self._states.items():
            saved, _ = store.match([*self._tokens(number), 1])
            found[number] = None if saved is None else store.read(saved)
            if found[number] not in (None, state):
                return "another state"
        return None if None in found.values() else found

    def make(self) -> None:
        store = self._open()
        for number, state in self._states.items():
            if not store.is_covered(self._tokens(number)):
                store.write(self._tokens(number), state)


def damage(path: Path, others: list[Path], chance: random.Random) -> str | None:
    """Does one to a file; its name, or None when the file is as it was."""
    content, kind = path.read_bytes(), chance.choice(_DAMAGES)
    if kind == "removed":
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
        case "cut":
            del broken[at:]
        case "longer":
            broken += chance.randbytes(length)
        case "empty":
            broken.clear()
        case "other" if others:
            alike = [other for other in others if other.suffix == path.suffix]
            broken[:] = chance.choice(alike or others).read_bytes()
    if broken == content:
        return None
    path.write_bytes(broken)
    return kind


def prove(name: str, cache: Cache, num_damages: int, chance: random.Random) -> bool:
    """Whether all went well; prints what was done."""
    whole = cache.read()
    assert whole is not None, f"{name} is there"
    done: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    wrongs = []
    with tempfile.TemporaryDirectory() as keeping:
        kept = shutil.copytree(cache.folder, Path(keeping, "whole"))
        names = sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file())
        while done.total() < num_damages:
            chosen = cache.folder / chance.choice([name for name in names if name.match(cache.pattern)])
            others = [cache.folder / other for other in names if cache.folder / other != chosen]
            kind = damage(chosen, others, chance)
            if kind is None:
                continue
            done[kind] += 1
            found = cache.read()
            ends["noticed" if found is None else "without effect"] += found in (None, whole)
            if found not in (None, whole):
                wrongs.append(f"{chosen.name}, {kind}: something else was found")
            if done.total() % cache.remade_every == 0:
                cache.make()
                ends["looked after"] += 1
                if cache.read() != whole:
                    wrongs.append(f"{chosen.name}, {kind}: it did not come back")
            shutil.rmtree(cache.folder)
            shutil.copytree(kept, cache.folder)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(done.items()))
    print(f"{name}: {done.total()} damages ({kinds}): {dict(ends)}, {len(wrongs)} wrong", flush=True)
    for wrong in wrongs[:20]:
        print(f"  {wrong}", flush=True)
    return not wrongs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=1000, help="of each cache")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="a part of the caches' names")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        caches = {
            "generations, exact": lambda: Generations(folder / "exact", "exact"),
            "generations, scalar": lambda: Generations(folder / "scalar", "scalar"),
            "generations, binary": lambda: Generations(folder / "binary", "binary"),
            "lexical index": lambda: Lexical(folder / "data"),
            "prefixes": lambda: Prefixes(folder / "prefixes"),
            "conversion": lambda: Conversion(folder / "cache"),
        }
        chosen = [each for each in caches if options.only is None or options.only in each]
        chance = random.Random(options.seed)
        good = [prove(each, caches[each](), options.damages, chance) for each in chosen]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
