"""Fill a disk in steps of 4 KiB while the index grows on it: nothing is lost, searches go on, and work resumes.

    sudo .venv/bin/python scripts/prove/full_disk.py [--size 8] [--stops 30]

Mounts a tmpfs of `--size` MiB for the data folder (in a mount namespace of its own, so nothing is left behind; needs
root or a user namespace). Each time a file is indexed and searched for; then files are saved while a ballast file takes
the free space, 4 KiB at a time, until the indexer reports that it cannot write. A search must still find what was
indexed before, no acknowledged document may be lost, and once the ballast is removed, every file must be indexed. The
exit status is 1 when one of these fails.
"""

import argparse
import asyncio
import ctypes
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import proof

from index.ingest.indexer import Indexer
from index.ingest.progress import Progress
from index.ingest.store import open_document_store
from index.params import IndexingParams
from index.reading.readers import read
from index.search.retriever import Retriever
from index.storage.sqlite.database import open_reader, query
from index.types import Collection, Query, Vectors

_STEP = 4096
_LIBC = ctypes.CDLL(None, use_errno=True)


class Embedder:
    """Embeds texts and questions by the hashes of their words."""

    fingerprint, dimension, max_tokens = "hashes", 64, 512

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        vectors: Vectors = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in text.split():
                row[sum(word.encode()) % self.dimension] += 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)


def documents(data: Path) -> dict[str, str]:
    """Return the SHA-256 of each indexed document by its path."""
    reader = open_reader(data)
    try:
        return dict(query(reader, "SELECT path, sha256 FROM documents WHERE sha256 IS NOT NULL"))
    finally:
        reader.close()


def integrity_problem(data: Path) -> str | None:
    """Return what SQLite reports as damaged in the database, if anything."""
    reader = open_reader(data)
    try:
        rows = query(reader, "PRAGMA integrity_check")
    finally:
        reader.close()
    return None if rows == [("ok",)] else str(rows)


def fill(ballast: Path, chance: random.Random, until: threading.Event) -> None:
    """Fill the disk step by step, space that becomes free included, until `until` is set."""
    with ballast.open("ab", buffering=0) as file:
        while not until.is_set():
            try:
                file.write(bytes(_STEP * chance.choice((1, 1, 1, 8))))
            except OSError:
                time.sleep(0.01)
            time.sleep(chance.random() / 2000)


def stop_once(mount: Path, root: Path, number: int) -> str | None:
    """Fill the disk once; return what wrong, if anything."""
    chance, embedder, data = random.Random(number), Embedder(), mount / "data"
    has_reported, stop = threading.Event(), threading.Event()

    def report(progress: Progress) -> None:
        if progress.error:
            has_reported.set()

    (root / f"before{number}.md").write_text(f"kestrel{number} sits on the wire")
    writer = open_document_store(data)
    params = IndexingParams(settle_s=0.02, scan_interval_s=3600, hold_deletions_s=0)
    indexer = Indexer([Collection("notes", root)], writer, embedder, params, data, read, report)
    running = threading.Thread(target=indexer.run, args=(stop,))
    running.start()
    ballast = mount / "ballast"
    try:
        if not proof.holds_within(20, lambda: f"before{number}.md" in documents(data)):
            return "not indexed while there was room"
        with Retriever(data, embedder.fingerprint, embedder.dimension) as retriever:

            def finds(word: str) -> bool:
                passages = asyncio.run(retriever.search([Query(word)], embedder, 5))
                return any(word in passage.text for passage in passages)

            if not finds(f"kestrel{number}"):
                return "not found while there was room"
            acknowledged = documents(data).keys() & {path.name for path in root.iterdir()}
            filling = threading.Thread(target=fill, args=(ballast, chance, has_reported))
            filling.start()
            count = 0
            while not has_reported.is_set() and running.is_alive() and count < 20_000:
                (root / f"{number}-{count % 200}.md").write_text(f"otter {count} " + "reed " * chance.randrange(200))
                count += 1
                time.sleep(0.005)
            is_reported = has_reported.wait(10)
            has_reported.set()
            filling.join()
            if not is_reported or not running.is_alive():
                return f"the error was not reported (running: {running.is_alive()})"
            if not finds(f"kestrel{number}"):
                return "the search failed on a full disk"
            if not acknowledged <= documents(data).keys():
                return "an acknowledged document was lost"
            ballast.unlink()
            expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.iterdir()}
            if not proof.holds_within(30, lambda: documents(data) == expected):
                return "work did not resume"
            if not finds("otter"):
                return "a file indexed since is not found"
        return integrity_problem(data)
    finally:
        has_reported.set()
        stop.set()
        running.join()
        writer.close()
        ballast.unlink(missing_ok=True)
        for path in root.glob(f"{number}-*"):
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8, help="MiB")
    parser.add_argument("--stops", type=int, default=30)
    parser.add_argument("--mount", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mount is None:
        with tempfile.TemporaryDirectory() as folder:
            own = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
            command = [sys.executable, __file__, "--size", str(options.size), "--stops", str(options.stops)]
            sys.exit(subprocess.run([*own, *command, "--mount", folder]).returncode)
    if _LIBC.mount(b"tmpfs", os.fsencode(options.mount), b"tmpfs", 0, f"size={options.size}m".encode()):
        raise SystemExit(
            f"no tmpfs can be mounted, root or a user namespace is needed: {os.strerror(ctypes.get_errno())}"
        )
    wrong = []
    with tempfile.TemporaryDirectory() as root:
        for number in range(options.stops):
            if problem := stop_once(options.mount, Path(root), number):
                wrong.append(problem)
                print(f"stop {number}: {problem}", flush=True)
    print(f"{options.stops} full disks of {options.size} MiB: {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
