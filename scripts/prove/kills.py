"""Kill the real indexer process (SIGKILL) again and again at random instants while files change under it.

    .venv/bin/python scripts/prove/kills.py [--kills 500] [--seed 1]

After each kill the database is examined: every document that it held just before must still be there unless its file
was changed since; no document may have content that its file never had; every chunk must have its vector and its words.
Every 25 kills the files stay unchanged, and the index must become equal to them. Prints the figures; the exit status is
1 when something is wrong, or a restart took longer than 10 s.
"""

import argparse
import asyncio
import contextlib
import hashlib
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import proof

from index.errors import DataFolderError
from index.params import IndexingParams
from index.storage.sqlite.database import FILE, open_reader, query
from models.encoder.messages import ModelFiles
from models.ipc import open_child
from models.offline import OFFLINE
from server.resources.indexer import FromIndexer, IndexerReady, LoadIndexer

_REST_INTERVAL = 25
_MAX_RESTART_S = 10.0


class Files:
    """A folder that changes, with the hashes of every content that each file ever had."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self.chance = chance
        self.written: defaultdict[str, set[str]] = defaultdict(set)  # SHA-256 by path
        self.removed: set[str] = set()  # paths deleted or moved since the indexer started
        self.count = 0

    def change(self) -> None:
        path = f"{self.chance.randrange(5)}/{self.chance.randrange(40)}.md"
        file = self.root / path
        self.count += 1
        match self.chance.randrange(10):
            case 0 if file.exists():
                self.removed.add(path)
                file.unlink()
            case 1 if file.exists():
                other = f"{self.chance.randrange(5)}/{self.chance.randrange(40)}.md"
                self.removed.add(path)
                self.written[other].add(_sha256(file.read_bytes()))
                file.replace(self.root / other)
            case _:
                words = " ".join(self.chance.choice(("kestrel", "pike", "otter", "heron", "vole")) for _ in range(12))
                content = f"# Note {self.count}\n\n{words}\n\n# More of {self.count}\n\n{words[::-1]}\n".encode()
                self.written[path].add(_sha256(content))
                temporary = file.with_name(f".{file.name}.swp")
                temporary.parent.mkdir(exist_ok=True)
                temporary.write_bytes(content)
                temporary.replace(file)

    def hashes(self) -> dict[str, str]:
        return {
            file.relative_to(self.root).as_posix(): _sha256(file.read_bytes())
            for file in self.root.rglob("*.md")
            if not file.name.startswith(".")
        }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _has_tables(data: Path) -> bool:
    """Return whether the database has its tables: a kill may come before."""
    try:
        open_reader(data).close()
    except DataFolderError:
        return False
    return True


def indexed(data: Path) -> dict[str, str]:
    """Return the SHA-256 of each indexed document by its path."""
    if not _has_tables(data):
        return {}
    reader = open_reader(data)
    try:
        return dict(query(reader, "SELECT path, sha256 FROM documents WHERE sha256 IS NOT NULL"))
    finally:
        reader.close()


def examine(data: Path, files: Files, before: dict[str, str], rested: set[str]) -> list[str]:
    """Return what is wrong after a kill. `before` was indexed just before it; `rested` are the paths never deleted."""
    if not _has_tables(data):
        return ["the database is gone"] if before else []
    after = indexed(data)
    wrong = [f"lost: {path}" for path in rested - after.keys()]
    wrong += [f"phantom: {path}" for path, sha256 in after.items() if sha256 not in files.written[path]]
    reader = open_reader(data)
    try:
        (checked,) = query(reader, "PRAGMA quick_check")
        orphans = query(
            reader,
            "SELECT count(*) FROM chunks WHERE content_hash NOT IN (SELECT content_hash FROM vectors)"
            " OR document_id NOT IN (SELECT id FROM documents) OR id NOT IN (SELECT rowid FROM words)",
        )
        empty = query(
            reader,
            "SELECT count(*) FROM documents WHERE sha256 IS NOT NULL"
            " AND (SELECT count(*) FROM chunks WHERE document_id = documents.id) != 2",
        )
    finally:
        reader.close()
    wrong += [f"{FILE}: {checked[0]}"] * (checked[0] != "ok")
    wrong += [f"{count} {what}" for ((count,),), what in ((orphans, "orphans"), (empty, "half documents")) if count]
    return wrong


class Run:
    """Runs one indexer process after the other over the same folders."""

    def __init__(self, folder: Path, embedder: ModelFiles, seed: int) -> None:
        self.chance = random.Random(seed)
        self.data = folder / "data"
        self.files = Files(folder / "root", self.chance)
        self.files.root.mkdir()
        for _ in range(100):
            self.files.change()
        params = IndexingParams(settle_s=0.1, scan_interval_s=2)
        self.load = LoadIndexer(str(self.data), {"notes": str(self.files.root)}, embedder, params)
        self.ready_s: list[float] = []
        self.equal_s: list[float] = []
        self.acknowledged = 0

    async def _serve(self, frames: object, started: float) -> None:
        async for frame in frames:  # type: ignore[attr-defined]
            if isinstance(frame, IndexerReady):
                self.ready_s.append(time.monotonic() - started)

    async def live(self, *, until_equal: bool) -> list[str]:
        """Start the process and kill it at a random instant, or, with `until_equal`, once it has caught up."""
        started, present = time.monotonic(), self.files.hashes().keys()
        self.files.removed.clear()
        async with open_child("indexer", "server.resources.indexer", FromIndexer, OFFLINE) as child:
            serving = asyncio.create_task(self._serve(child.frames(), started))
            await child.send(self.load)
            if until_equal:
                while indexed(self.data) != self.files.hashes():
                    if time.monotonic() - started > 60:
                        return ["the index does not become equal to the files"]
                    await asyncio.sleep(0.02)
                self.equal_s.append(time.monotonic() - started)
            else:
                end = started + self.chance.uniform(0.1, 2.5)
                while time.monotonic() < end:
                    self.files.change()
                    await asyncio.sleep(self.chance.uniform(0, 0.05))
            before = indexed(self.data)
            os.kill(child.pid, signal.SIGKILL)
            with contextlib.suppress(Exception):
                await serving
        rested = (before.keys() & present) - self.files.removed
        self.acknowledged += len(rested)
        return examine(self.data, self.files, before, rested)


async def prove(folder: Path, num_kills: int, seed: int) -> bool:
    run, wrong = Run(folder, await proof.default_embedder_files(), seed), []
    for number in range(1, num_kills + 1):
        problems = await run.live(until_equal=number % _REST_INTERVAL == 0)
        wrong += problems
        for each in problems:
            print(f"kill {number}: {each}", flush=True)
        if number % _REST_INTERVAL == 0:
            print(f"{number} kills, {len(wrong)} wrong", flush=True)
    slowest = max(run.ready_s, default=math.inf)
    print(
        f"{num_kills} kills, {run.files.count:,} changes to files, {run.acknowledged:,} documents looked up"
        f" again: {len(wrong)} wrong; ready after {slowest:.1f} s at most, equal to the files after"
        f" {max(run.equal_s, default=0):.1f} s at most"
    )
    return not wrong and slowest <= _MAX_RESTART_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        is_good = asyncio.run(prove(Path(folder), options.kills, options.seed))
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
