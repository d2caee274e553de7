"""The contract of a batch store, and the migration of a file that an older version wrote."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from server.access.keys import Role
from server.access.principal import UNRESTRICTED, Principal
from server.errors import BatchNotFound, TooManyBatches
from server.storage.base import BatchStore
from server.storage.records import (
    BatchError,
    BatchLine,
    BatchOptions,
    BatchRecord,
    LineOutcome,
    LineResult,
    RequestCounts,
    TokenUsage,
)
from server.storage.sqlite.batches import BATCHES_FILE, SqliteBatchStore
from tests.server.storage.memory import MemoryBatchStore

Open = Callable[[Path], AbstractContextManager[BatchStore]]
STORES: list[Open] = [SqliteBatchStore, lambda _: MemoryBatchStore()]
Run = Callable[[Callable[[BatchStore], Coroutine[Any, Any, None]]], None]
OPTIONS = BatchOptions(UNRESTRICTED, "http://x/", 3600)


@pytest.fixture(params=STORES, ids=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function that runs a check with a newly opened store."""
    opener: Open = request.param

    def run_check(check: Callable[[BatchStore], Coroutine[Any, Any, None]]) -> None:
        with opener(tmp_path) as store:
            asyncio.run(check(store))

    return run_check


def batch(id: str = "batch_1", **fields: Any) -> BatchRecord:
    return BatchRecord(
        **{
            "id": id,
            "endpoint": "/v1/embeddings",
            "input_file_id": "file-1",
            "completion_window": "24h",
            "status": "in_progress",
            "created_at": 1,
            "expires_at": 2,
            "metadata": {"a": "b"},
            **fields,
        }
    )


def mark_completed(current: BatchRecord) -> BatchRecord:
    return msgspec.structs.replace(current, status="completed")


def count_one(current: BatchRecord) -> BatchRecord:
    counts = RequestCounts(2, current.request_counts.completed + 1)
    return msgspec.structs.replace(current, request_counts=counts)


def test_a_batch_is_stored_with_its_options_and_updated(run: Run) -> None:
    async def check(store: BatchStore) -> None:
        await store.add(batch(), OPTIONS)
        await store.add(batch("batch_2"), OPTIONS)
        assert (await store.get("batch_1"), await store.options("batch_1")) == (batch(), OPTIONS)
        assert [each.id for each in await store.list_batches()] == ["batch_1", "batch_2"]
        assert await store.update("batch_1", mark_completed) == batch(status="completed")
        assert [each.id for each in await store.list_unfinished()] == ["batch_2"]
        for look in (store.get, store.options):
            with pytest.raises(BatchNotFound):
                await look("batch_x")

    run(check)


def test_a_line_is_finished_once(run: Run) -> None:
    async def check(store: BatchStore) -> None:
        await store.add(batch(), OPTIONS)
        lines = [BatchLine(1, "a", b"{}"), BatchLine(3, "b", b"{1}")]
        await store.add_lines("batch_1", lines)
        assert await store.undone_numbers("batch_1") == [1, 3]
        assert [await store.undone_line("batch_1", number) for number in (1, 2, 3)] == [lines[0], None, lines[1]]
        first = await store.finish_line("batch_1", 1, LineOutcome(b"first", False), count_one)
        assert first is not None and first.request_counts.completed == 1
        assert await store.finish_line("batch_1", 1, LineOutcome(b"second", True), count_one) is None
        assert (await store.get("batch_1")).request_counts.completed == 1
        assert await store.undone_line("batch_1", 1) is None
        assert await store.undone_numbers("batch_1") == [3]
        done, undone = LineResult(1, "a", LineOutcome(b"first", False)), LineResult(3, "b", None)
        assert await store.results("batch_1", 0, 10) == [done, undone]
        assert await store.results("batch_1", 0, 1) == [done]
        assert await store.results("batch_1", 1, 10) == [undone]

    run(check)


def test_the_lines_of_a_batch_that_is_over_are_deleted(run: Run) -> None:
    async def check(store: BatchStore) -> None:
        await store.add(batch(), OPTIONS)
        await store.add_lines("batch_1", [BatchLine(1, "a", b"{}")])
        await store.clear_lines("batch_1")
        assert await store.results("batch_1", 0, 10) == []
        await store.add_lines("batch_1", [BatchLine(1, "a", b"{}")])
        await store.update("batch_1", mark_completed)
        assert await store.results("batch_1", 0, 10) == []
        assert await store.undone_numbers("batch_1") == []

    run(check)


@pytest.mark.parametrize("status", ["cancelling", "finalizing"])
def test_no_line_is_finished_when_the_batch_is_not_in_progress(run: Run, status: str) -> None:
    async def check(store: BatchStore) -> None:
        await store.add(batch(status=status), OPTIONS)
        await store.add_lines("batch_1", [BatchLine(1, "a", b"{}")])
        assert await store.finish_line("batch_1", 1, LineOutcome(b"late", False), count_one) is None
        assert await store.results("batch_1", 0, 10) == [LineResult(1, "a", None)]

    run(check)


def test_unfinished_batches_are_limited(run: Run) -> None:
    async def check(store: BatchStore) -> None:
        for number in range(100):
            await store.add(batch(f"batch_{number}"), OPTIONS)
        with pytest.raises(TooManyBatches):
            await store.add(batch("batch_x"), OPTIONS)
        await store.update("batch_0", mark_completed)
        await store.add(batch("batch_x"), OPTIONS)

    run(check)


@pytest.mark.parametrize("collections", [frozenset({"x"}), None])
def test_a_key_sees_only_its_own_batches(run: Run, collections: frozenset[str] | None) -> None:
    async def check(store: BatchStore) -> None:
        mine, other = (store.seen_by(Principal(name, Role.WRITE, collections)) for name in "ab")
        await mine.add(batch(), OPTIONS)
        assert [len(await each.list_batches()) for each in (mine, other, store)] == [1, 0, 1]
        with pytest.raises(BatchNotFound):
            await other.get("batch_1")
        with pytest.raises(BatchNotFound):
            await other.update("batch_1", mark_completed)

    run(check)


OLD_SCHEMA = """
    CREATE TABLE batches (
        at INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, is_over INTEGER NOT NULL,
        batch BLOB NOT NULL, order_ BLOB NOT NULL
    ) STRICT;
    CREATE INDEX batches_left ON batches (at) WHERE NOT is_over;
    CREATE TABLE lines (
        batch_at INTEGER NOT NULL REFERENCES batches ON DELETE CASCADE, number INTEGER NOT NULL,
        custom_id TEXT NOT NULL, body BLOB NOT NULL, is_error INTEGER, output BLOB, PRIMARY KEY (batch_at, number)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;
"""
OLD_BATCH = {
    "id": "batch_1",
    "endpoint": "/v1/embeddings",
    "input_file_id": "file-1",
    "completion_window": "24h",
    "status": "in_progress",
    "created_at": 1,
    "expires_at": 2,
    "metadata": {"ü": "\N{GRINNING FACE}"},
    "errors": None,
    "request_counts": {"total": 2, "completed": 1, "failed": 0},
    "usage": {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    },
    "object": "batch",
}
OLD_ERRORS = {
    "data": [{"code": "empty_file", "message": "The input file has no line.", "line": None, "param": None}],
    "object": "list",
}


def write_old_file(folder: Path) -> None:
    """Write a batch in progress, with a line that is done and one that is not, and one that failed."""
    db = apsw.Connection(str(folder / BATCHES_FILE))
    db.execute(OLD_SCHEMA)
    failed = {**OLD_BATCH, "id": "batch_2", "status": "failed", "errors": OLD_ERRORS, "usage": None}
    options = json.dumps({"principal": ["", 3, None, ""], "base_url": "http://x/", "keep_s": 3600}).encode()
    for is_over, each in enumerate((OLD_BATCH, failed)):
        db.execute(
            "INSERT INTO batches (id, owner, is_over, batch, order_) VALUES (?, '', ?, ?, ?)",
            (each["id"], is_over, json.dumps(each).encode(), options),
        )
    db.execute("INSERT INTO lines VALUES (1, 1, 'a', x'7b7d', 0, x'6f6b'), (1, 2, 'b', x'7b7d', NULL, NULL)")
    db.close()


def test_a_file_of_the_first_schema_is_migrated(tmp_path: Path) -> None:
    async def check(store: BatchStore) -> None:
        first = batch(
            metadata={"ü": "\N{GRINNING FACE}"}, request_counts=RequestCounts(2, 1), usage=TokenUsage(7, 2, 5, 1)
        )
        assert await store.get("batch_1") == first
        failed = await store.get("batch_2")
        assert failed.errors == (BatchError("empty_file", "The input file has no line."),)
        assert (failed.status, failed.usage) == ("failed", None)
        assert [each.id for each in await store.list_unfinished()] == ["batch_1"]
        assert await store.options("batch_1") == OPTIONS
        assert await store.undone_line("batch_1", 2) == BatchLine(2, "b", b"{}")
        assert await store.results("batch_1", 0, 1) == [LineResult(1, "a", LineOutcome(b"ok", False))]

    write_old_file(tmp_path)
    with SqliteBatchStore(tmp_path) as store:
        asyncio.run(check(store))
    with SqliteBatchStore(tmp_path) as store:
        asyncio.run(check(store))
