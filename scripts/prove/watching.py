"""Change two watched folders at random: ten seconds after the last change, the index must equal the disk.

    .venv/bin/python scripts/prove/watching.py [--walks 20] [--steps 200] [--seed 1]

The indexer's own loop with the system's events, and a fake embedding model. The changes: new files, slow writes, saves
by renaming a temporary file, edits that keep size and time, renames, moves between the folders, deletions,
folders renamed, moved and deleted, names whose case changes, symbolic links in and out and in circles. Scans at an
interval come once an hour, so every change must be noticed by an event, or by a scan that the indexer requests itself.
Then 30,000 files are written while the process is stopped (SIGSTOP). Prints how long the index took to become equal;
the exit status is 1 when it took more than ten seconds (for the 30,000 files: until all were listed as documents).
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import numpy as np

from index.errors import DataFolderError
from index.ingest.files import list_files
from index.ingest.indexer import Indexer
from index.ingest.store import open_document_store
from index.params import IndexingParams
from index.reading.readers import read
from index.storage.sqlite.database import open_reader, query
from index.types import Collection, Vectors

_QUIET_S = 10.0
_NUM_FILES_STOPPED = 30_000
_NAMES = ["a.md", "b.txt", "A.md", "x.md", ".d.md", "e.md.tmp", "f.py", "ü.md"]
_FOLDERS = ["", "x", "x/y", "z", ".w", "x.md", "Z"]


class Embedder:
    """Returns the same vector for every text."""

    fingerprint, dimension, max_tokens = "same", 8, 512

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        vectors: Vectors = np.ones((len(texts), self.dimension), np.float32)
        return vectors


def index(folder: Path) -> None:
    """Index until standard input closes. Runs in a process of its own."""
    stop = Event()
    writer = open_document_store(folder / "data")
    collections = [Collection(name, folder / name) for name in ("one", "two")]
    params = IndexingParams(scan_interval_s=3600)
    indexer = Indexer(collections, writer, Embedder(), params, folder / "data", read)

    def stop_at_end_of_input() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    indexer.run(stop)


def indexed(folder: Path) -> dict[tuple[str, str], str]:
    """Return the text of each document by collection and path; empty before the tables exist."""
    try:
        reader = open_reader(folder / "data")
    except DataFolderError:
        return {}
    try:
        rows = query(
            reader,
            "SELECT name, path, coalesce(group_concat(text, char(10) ORDER BY ordinal), '') FROM documents"
            " JOIN collections ON collections.id = collection_id LEFT JOIN chunks ON document_id = documents.id"
            " GROUP BY documents.id",
        )
    finally:
        reader.close()
    return {(name, path): text for name, path, text in rows}


def on_disk(folder: Path) -> dict[tuple[str, str], str]:
    return {
        (name, path): (folder / name / path).read_text().rstrip()
        for name in ("one", "two")
        for path, _ in list_files(folder / name).files
    }


def step(folder: Path, chance: random.Random, number: int) -> None:
    """Make one change. Raises `OSError` where something is in the way."""

    def some_folder() -> Path:
        return folder / chance.choice(("one", "two")) / chance.choice(_FOLDERS[1:])

    def some_file() -> Path:
        return folder / chance.choice(("one", "two")) / chance.choice(_FOLDERS) / chance.choice(_NAMES)

    file, text = some_file(), f"text {number} of {chance.randrange(1000):03}"
    match chance.randrange(14):
        case 0 | 1 | 2:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        case 3:  # write slowly
            with file.open("w") as opened:
                for word in text.split():
                    opened.write(f"{word} ")
                    opened.flush()
                    time.sleep(0.05)
        case 4:  # save by renaming a temporary file
            other = file.with_name(f"{file.name}.tmp")
            other.write_text(text)
            other.replace(file)
        case 5:  # edit, with size and time as before
            status = file.stat()
            file.write_bytes(bytes(chance.choice(b"abc") for _ in range(status.st_size)))
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        case 6 | 7:
            file.replace(some_file())
        case 8:
            file.unlink()
        case 9 | 10:
            some_folder().rename(some_folder())
        case 11:
            shutil.rmtree(some_folder())
        case 12:  # links that lead out of the folders, into them, and in a circle
            target = chance.choice([folder / "outside", folder / "one", file, Path("nowhere")])
            some_file().symlink_to(target)
        case 13:
            file.rename(file.with_name(file.name.swapcase()))


def await_equal(folder: Path, since: float, timeout_s: float) -> float | None:
    """Wait until the index equals the disk; return the seconds since the last change, or None after the timeout."""
    expected = on_disk(folder)
    while time.monotonic() - since < timeout_s:
        if indexed(folder) == expected:
            return time.monotonic() - since
        time.sleep(0.05)
    return None


def walk(folder: Path, chance: random.Random, num_steps: int) -> float | None:
    """Make random changes; return the seconds until the index equals the disk, or None if it did not in time."""
    for name in ("one", "two", "outside"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    (folder / "outside" / "secret.md").write_text("secret")
    for number in range(num_steps):
        with contextlib.suppress(OSError):
            step(folder, chance, number)
        if chance.random() < 0.05:
            time.sleep(chance.random())
    seconds = await_equal(folder, time.monotonic(), _QUIET_S)
    if seconds is None:
        documents, files = indexed(folder), on_disk(folder)
        different = [key for key in documents.keys() | files.keys() if documents.get(key) != files.get(key)]
        print(f"not equal: {[(key, documents.get(key), files.get(key)) for key in different]}")
    return seconds


def write_while_stopped(folder: Path, pid: int) -> float | None:
    """Write many files while the indexer is stopped; return the seconds until all are documents, None for never."""
    os.kill(pid, signal.SIGSTOP)
    for number in range(_NUM_FILES_STOPPED):
        if number % 100 == 0:
            (folder / "one" / f"many{number // 100}").mkdir()
        (folder / "one" / f"many{number // 100}" / f"{number}.md").write_text(f"text {number}")
    os.kill(pid, signal.SIGCONT)
    since = time.monotonic()
    num_files = len(on_disk(folder))
    while time.monotonic() - since < 60:
        reader = open_reader(folder / "data")
        ((num_documents,),) = query(reader, "SELECT count(*) FROM documents")
        reader.close()
        if num_documents == num_files:
            return time.monotonic() - since
        time.sleep(0.1)
    return None


def await_all(folder: Path) -> bool:
    """Wait as long as documents are still being read; return whether the index then equals the disk."""
    expected, before, since = on_disk(folder), -1, time.monotonic()
    while time.monotonic() - since < 60:
        documents = indexed(folder)
        if documents == expected:
            return True
        if (num_read := sum(map(bool, documents.values()))) != before:
            before, since = num_read, time.monotonic()
        time.sleep(1)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.index:
        index(options.index)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one").mkdir()
        (folder / "two").mkdir()
        child = subprocess.Popen([sys.executable, __file__, "--index", name], stdin=subprocess.PIPE)
        try:
            delays = [walk(folder, random.Random(options.seed + n), options.steps) for n in range(options.walks)]
            good = [each for each in delays if each is not None]
            print(
                f"{len(delays)} walks of {options.steps} steps: {len(good)} equal to the disk, at most"
                f" {max(good, default=0):.1f} s after the last change",
                flush=True,
            )
            known_after_s = write_while_stopped(folder, child.pid)
            print(
                f"{_NUM_FILES_STOPPED:,} files written while stopped: all listed after {known_after_s or 0:.1f} s",
                flush=True,
            )
            is_complete = await_all(folder)
            print(f"{'none' if is_complete else 'SOME'} of them lost once all were read")
        finally:
            child.kill()
            child.wait()
    sys.exit(0 if len(good) == len(delays) and known_after_s and is_complete else 1)


if __name__ == "__main__":
    main()
