"""Measure search over synthetic chunks: latency of both arms, fused, filtered and during writes; recall, memory, start.

    .venv/bin/python scripts/bench/search.py --chunks 10000,100000,1000000 [--folder DIR] [--out results.json]

Vectors have the spectrum of a sentence embedder's (variance by rank measured on 4,000 texts under MiniLM: power law
with an exponential end, mean cosine .1) and come in documents of 20 chunks that share topics; queries are as far from
their nearest chunk as questions are (mean cosine of the 1st and 10th nearest of 100,000: .74, .51). Words follow Zipf's
law. The database is filled in bulk, in its real schema; everything measured goes through the Retriever, in a process
of its own. `--folder` needs about 4 GB per million chunks, which are deleted at the end.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import measurement
import numpy as np

from index.dense.compaction import Compaction
from index.embedded_text import content_hash
from index.lexical.fts5 import Fts5Writer
from index.lexical.search import LexicalSearch
from index.lexical.upkeep import LexicalUpkeep
from index.search.calibration import QUESTIONS
from index.search.retriever import Retriever
from index.storage.records import FileStat
from index.storage.sqlite.database import open_writer, transaction
from index.storage.sqlite.document_store import SqliteDocumentStore
from index.types import Chunk, Collection, Query, Vectors

_DIMENSION = 384
_SPACE = "synthetic"
_CHUNKS_PER_DOCUMENT = 20
_BLOCK_SIZE = 20_000  # chunks generated at once
_NUM_QUERIES = 100
_SMALL_INTERVAL = 10  # every tenth document is in the small collection
_CHUNK_WORDS = 50
_QUESTION_WORDS = 5
_NUM_COMMON_WORDS = 100


class Questions(NamedTuple):
    texts: list[str]
    vectors: Vectors


class VectorSource:
    """Draws unit vectors with realistic statistics."""

    def __init__(self, count: int) -> None:
        self._random = np.random.default_rng(count)
        rank = np.arange(1, _DIMENSION + 1)
        spread = np.sqrt(rank**-0.65 * np.exp(-((rank / 240.0) ** 2)))
        rotation = np.linalg.qr(self._random.standard_normal((_DIMENSION, _DIMENSION)))[0]
        self._shape = (0.954 * (spread / np.linalg.norm(spread))[:, None] * rotation).astype(np.float32)
        self._mean = (0.3 * rotation[0]).astype(np.float32)
        self._topics = self._draw(max(50, count // 400))

    def _draw(self, count: int) -> Vectors:
        return self._random.standard_normal((count, _DIMENSION), dtype=np.float32)

    def chunks(self, count: int) -> Vectors:
        num_documents = -(-count // _CHUNKS_PER_DOCUMENT)
        topics = self._topics[self._random.integers(len(self._topics), size=num_documents)]
        documents = 0.55 * self._draw(num_documents) + 0.55 * topics
        chunks = np.repeat(documents, _CHUNKS_PER_DOCUMENT, axis=0)[:count]
        return _unit((chunks + 0.63 * self._draw(count)) @ self._shape + self._mean)

    def near(self, vectors: Vectors) -> Vectors:
        return _unit(0.7 * vectors + 0.7 * (self._draw(len(vectors)) @ self._shape + self._mean))


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


class Language:
    """Draws words of random syllables by Zipf's law."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        syllables = [c + v for c in "bcdfghklmnprstvz" for v in "aeiou"]
        picks = self._random.integers(len(syllables), size=(60_000, 4))
        lengths = self._random.integers(1, 5, size=60_000)
        words = ["".join(syllables[i] for i in row[:n]) for row, n in zip(picks, lengths, strict=True)]
        self._vocabulary = np.array(words, object)
        self._common = frozenset(words[:_NUM_COMMON_WORDS])
        weights = 1 / (np.arange(len(words)) + 2.7)
        self._bounds = np.cumsum(weights / weights.sum())

    def texts(self, count: int) -> list[str]:
        at = np.searchsorted(self._bounds, self._random.random((count, _CHUNK_WORDS))).clip(
            max=len(self._vocabulary) - 1
        )
        return [" ".join(row) for row in self._vocabulary[at]]

    def question(self, text: str) -> str:
        """Draw a question from a text's words, without the most common ones: these are function words in real texts."""
        words = [word for word in text.split() if word not in self._common]
        return " ".join(self._random.choice(words, _QUESTION_WORDS, replace=False))


class NearestChunks:
    """The exact ten nearest chunks of each question, among the chunks of one collection or of both."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self.scores = np.full((_NUM_QUERIES, 10), -2.0, np.float32)
        self.ids = np.zeros((_NUM_QUERIES, 10), np.int64)

    def add(self, vectors: Vectors, ids: np.ndarray) -> None:
        scores = np.concatenate([self.scores, self._questions.vectors @ vectors.T], axis=1)
        all_ids = np.concatenate([self.ids, np.broadcast_to(ids, (_NUM_QUERIES, len(ids)))], axis=1)
        order = np.argpartition(-scores, 10, axis=1)[:, :10]
        self.scores = np.take_along_axis(scores, order, axis=1)
        self.ids = np.take_along_axis(all_ids, order, axis=1)


def build(folder: Path, count: int) -> None:
    """Write a database of `count` chunks with its indexes, and the questions with their exact answers."""
    connection = open_writer(folder)
    connection.pragma("synchronous", "OFF")
    connection.pragma("cache_size", -500_000)
    writer = SqliteDocumentStore(connection, Fts5Writer(), LexicalUpkeep(connection, folder))
    _insert_documents(connection, writer, folder, count)
    questions, nearest, nearest_small = _insert_chunks(connection, count)
    connection.execute("ANALYZE")
    connection.pragma("wal_checkpoint", "truncate")
    facts = {
        "texts": questions.texts,
        "generation_s": _write_generation(folder, writer),
        "lexical_s": _write_lexical_index(connection, folder),
        "cosine_10th": float(nearest.scores.min(axis=1).mean()),
    }
    writer.trim_changes(count)
    writer.close()
    np.savez(folder / "questions.npz", vectors=questions.vectors, all=nearest.ids, small=nearest_small.ids)
    (folder / "questions.json").write_text(json.dumps(facts))


def _insert_documents(connection: Any, writer: SqliteDocumentStore, folder: Path, count: int) -> None:
    ids = writer.configure([Collection("large", folder / "large"), Collection("small", folder / "small")])
    numbers = range(1, count // _CHUNKS_PER_DOCUMENT + 2)
    with transaction(connection):
        connection.executemany(
            "INSERT INTO documents (id, collection_id, path, size, mtime_ns, state) VALUES (?, ?, ?, 1, 1, 'indexed')",
            ((n, ids["small" if n % _SMALL_INTERVAL == 0 else "large"], f"{n}.md") for n in numbers),
        )


def _insert_chunks(connection: Any, count: int) -> tuple[Questions, NearestChunks, NearestChunks]:
    """Insert the chunks; return questions about the first of them, and the nearest chunks: of all, of the small."""
    space, language = VectorSource(count), Language()
    size = min(_BLOCK_SIZE, count)
    vectors, texts = space.chunks(size), language.texts(size)
    indexes = np.linspace(0, size - 1, _NUM_QUERIES).astype(int)
    questions = Questions([language.question(texts[i]) for i in indexes], space.near(vectors[indexes]))
    nearest, nearest_small = NearestChunks(questions), NearestChunks(questions)
    for start in range(0, count, _BLOCK_SIZE):
        if start:
            size = min(_BLOCK_SIZE, count - start)
            vectors, texts = space.chunks(size), language.texts(size)
        _insert(connection, start + 1, texts, vectors)
        ids = np.arange(start + 1, start + size + 1)
        is_small = ((ids - 1) // _CHUNKS_PER_DOCUMENT + 1) % _SMALL_INTERVAL == 0
        nearest.add(vectors, ids)
        nearest_small.add(vectors[is_small], ids[is_small])
    return questions, nearest, nearest_small


def _write_generation(folder: Path, writer: SqliteDocumentStore) -> float:
    """Write the vector index; return the seconds."""
    started = time.perf_counter()
    compaction = Compaction(folder, _SPACE, _DIMENSION, writer.database_id())
    compaction.start()
    compaction.take_superseded_seq(wait=True)
    compaction.close()
    return time.perf_counter() - started


def _write_lexical_index(connection: Any, folder: Path) -> float:
    """Write the lexical index; return the seconds."""
    started = time.perf_counter()
    upkeep = LexicalUpkeep(connection, folder)
    while upkeep.advance():
        pass
    upkeep.close()
    return time.perf_counter() - started


def _insert(connection: Any, first: int, texts: Sequence[str], vectors: Vectors) -> None:
    halves = vectors.astype("<f2")
    numbers = range(first, first + len(texts))
    hashes = [number.to_bytes(8, "big") * 4 for number in numbers]
    with transaction(connection):
        connection.executemany(
            "INSERT INTO vectors (content_hash, fingerprint, vector) VALUES (?, ?, ?)",
            ((h, _SPACE, half.tobytes()) for h, half in zip(hashes, halves, strict=True)),
        )
        connection.executemany(
            "INSERT INTO chunks (id, document_id, ordinal, text, heading, char_from, char_to, line_from, line_to,"
            " content_hash) VALUES (?, ?, ?, ?, '[]', 0, 1, 1, 1, ?)",
            (
                (n, (n - 1) // _CHUNKS_PER_DOCUMENT + 1, (n - 1) % _CHUNKS_PER_DOCUMENT, text, h)
                for n, text, h in zip(numbers, texts, hashes, strict=True)
            ),
        )
        connection.executemany("INSERT INTO changes (chunk_id, is_removal) VALUES (?, 0)", ((n,) for n in numbers))


def write(folder: Path) -> None:
    """Commit a document of 8 chunks ten times a second, about the rate of an import, until killed."""
    space, language = VectorSource(20_000), Language()
    connection = open_writer(folder)
    upkeep = LexicalUpkeep(connection, folder)
    writer = SqliteDocumentStore(connection, Fts5Writer(), upkeep)
    ids = writer.configure([Collection("large", folder / "large"), Collection("small", folder / "small")])
    number = 0
    while True:
        chunks = [Chunk(f"{number} {text}", (), 0, 1, 1, 1) for text in language.texts(8)]
        writer.store_vectors(_SPACE, [content_hash(chunk) for chunk in chunks], space.chunks(8))
        writer.replace(ids["large"], f"written/{number % 200}.md", FileStat(1, number), "", None, chunks)
        upkeep.advance()
        number += 1
        time.sleep(0.1)


class PrecomputedEmbedder:
    """An embedder that knows the vectors of all questions, and takes no time."""

    def __init__(self, questions: Questions) -> None:
        self._vectors = dict(zip(questions.texts, questions.vectors, strict=True))
        self._vectors |= dict(zip(QUESTIONS, questions.vectors[: len(QUESTIONS)], strict=True))

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return np.array([self._vectors[text] for text in texts])


class LexicalStopwatch:
    """Measures the lexical arm, so that the rest can be reported without it."""

    def __init__(self) -> None:
        self.last_s = 0.0
        self._search = LexicalSearch.search

    def install(self) -> None:
        def search(engine: LexicalSearch, *arguments: Any) -> Any:
            started = time.perf_counter()
            hits = self._search(engine, *arguments)
            self.last_s = time.perf_counter() - started
            return hits

        setattr(LexicalSearch, "search", search)  # noqa: B010


async def measure(folder: Path) -> dict[str, Any]:
    facts = json.loads((folder / "questions.json").read_text())
    answers = np.load(folder / "questions.npz")
    questions = Questions(facts["texts"], answers["vectors"])
    result: dict[str, Any] = {name: facts[name] for name in ("generation_s", "lexical_s", "cosine_10th")}
    result["rss_before_mib"] = measurement.resident_mib()
    watch = LexicalStopwatch()
    watch.install()
    with Retriever(folder, _SPACE, _DIMENSION) as retriever:
        started = time.perf_counter()
        await retriever.catch_up()
        result["load_s"] = time.perf_counter() - started
        result["kind"] = retriever._dense.kind
        for name, collection_ids, exact in (("all", [1, 2], answers["all"]), ("filtered", [2], answers["small"])):
            times, num_hits = [], 0
            for number in range(3):
                for vector, expected in zip(questions.vectors, exact, strict=True):
                    started = time.perf_counter()
                    passages = await retriever._run(retriever.search_dense, vector, 100, collection_ids)
                    times.append(time.perf_counter() - started)
                    num_hits += len({id for id, _ in passages[:10]} & set(expected.tolist())) if number == 0 else 0
            result[f"dense {name}"] = _latency_ms(times[_NUM_QUERIES:])
            result[f"recall@10 {name}"] = num_hits / (10 * _NUM_QUERIES)
        result["rss_dense_mib"] = measurement.resident_mib()
        embedder = PrecomputedEmbedder(questions)
        result |= await _fused(retriever, embedder, questions, watch, "", None)
        result |= await _fused(retriever, embedder, questions, watch, " filtered", ["small"])
        with _writing(folder):
            await asyncio.sleep(1)
            result |= await _fused(retriever, embedder, questions, watch, " while writing", None)
        result["rss_mib"] = measurement.resident_mib()
        result["rss_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


async def _fused(
    retriever: Retriever,
    embedder: PrecomputedEmbedder,
    questions: Questions,
    watch: LexicalStopwatch,
    name: str,
    collections: list[str] | None,
) -> dict[str, Any]:
    totals, lexical = [], []
    deadline = time.perf_counter() + 20
    for text in questions.texts:
        started = time.perf_counter()
        await retriever.search([Query(text)], embedder, 8, collections)
        totals.append(time.perf_counter() - started)
        lexical.append(watch.last_s)
        if time.perf_counter() > deadline:
            break
    rest = [a - b for a, b in zip(totals, lexical, strict=True)]
    return {
        f"fused{name}": _latency_ms(totals),
        f"lexical{name}": _latency_ms(lexical),
        f"fused{name}, less lexical": _latency_ms(rest),
    }


def _latency_ms(times: Sequence[float]) -> dict[str, float]:
    p50, p95 = measurement.percentiles(times)
    return {"p50_ms": round(1000 * p50, 2), "p95_ms": round(1000 * p95, 2)}


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, __file__, "--role", "write", "--folder", str(folder)])
    try:
        yield
    finally:
        child.kill()
        child.wait()


def _table(results: dict[str, dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for result in results.values() for name in result))
    lines = [f"| chunks | {' | '.join(f'{int(c):,}' for c in results)} |", f"| --- |{' --- |' * len(results)}"]
    for name in names:
        cells = [_cell(result.get(name)) for result in results.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['p50_ms']:.1f} / {value['p95_ms']:.1f} ms"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _child(role: str, folder: Path, count: int = 0) -> str:
    command = [sys.executable, __file__, "--role", role, "--folder", str(folder), "--chunks", str(count)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", default="10000,100000,1000000")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--role", choices=["build", "measure", "write"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    match options.role:
        case "build":
            build(options.folder, int(options.chunks))
        case "measure":
            print(json.dumps(asyncio.run(measure(options.folder))))
        case "write":
            write(options.folder)
        case None:
            _compare(options.chunks.split(","), options.folder, options.out)


def _compare(counts: Sequence[str], parent: Path | None, out: Path | None) -> None:
    results: dict[str, dict[str, Any]] = {}
    for count in counts:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            started = time.perf_counter()
            _child("build", Path(folder), int(count))
            built_s = time.perf_counter() - started
            results[count] = json.loads(_child("measure", Path(folder))) | {"build_s": built_s}
    measurement.print_machine()
    print(f"\n{_table(results)}")
    measurement.write_results(out, results)


if __name__ == "__main__":
    main()
