"""The contract of a turn store, and the SQLite store over a damaged file."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from server.storage.base import TurnStore
from server.storage.sqlite.turns import SqliteTurnStore
from tests.server.storage.memory import MemoryTurnStore

Open = Callable[[Path, int], AbstractContextManager[TurnStore]]
STORES: list[Open] = [
    lambda folder, max_bytes: SqliteTurnStore(folder / "turns.sqlite3", max_bytes),
    lambda _, max_bytes: MemoryTurnStore(max_bytes),
]
KEYS = [bytes([number]) * 16 for number in range(20)]


@pytest.fixture(params=STORES, ids=["sqlite", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], AbstractContextManager[TurnStore]]:
    opener: Open = request.param
    return lambda max_bytes: opener(tmp_path, max_bytes)


def test_recall_returns_the_turns_that_are_known(
    open_store: Callable[[int], AbstractContextManager[TurnStore]],
) -> None:
    async def check(store: TurnStore) -> None:
        assert await store.recall(KEYS) == {}
        store.remember(KEYS[0], b"one")
        store.remember(KEYS[1], b"two")
        store.remember(KEYS[1], b"three")
        assert await store.recall(KEYS) == {KEYS[0]: b"one", KEYS[1]: b"three"}

    with open_store(1000) as store:
        asyncio.run(check(store))


def test_the_turns_used_least_recently_are_deleted_first(
    open_store: Callable[[int], AbstractContextManager[TurnStore]],
) -> None:
    async def check(store: TurnStore) -> None:
        for key in KEYS[:10]:
            store.remember(key, b"x" * 100)
            await store.recall([KEYS[0]])
        store.remember(KEYS[10], b"x" * 100)
        assert set(await store.recall(KEYS)) == {KEYS[0], *KEYS[2:11]}

    with open_store(1000) as store:
        asyncio.run(check(store))


def recall(path: Path, keys: list[bytes], max_bytes: int = 10_000) -> set[bytes]:
    async def run() -> set[bytes]:
        with SqliteTurnStore(path, max_bytes) as store:
            return set(await store.recall(keys))

    return asyncio.run(run())


def test_turns_survive_a_restart_and_the_oldest_are_deleted_first(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite3"
    with SqliteTurnStore(path, 10_000) as store:
        for key in KEYS:
            store.remember(key, b"x" * 150)
    size = path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    assert recall(path, KEYS) == set(KEYS)
    with SqliteTurnStore(path, 1_000) as store:
        store.remember(b"new", b"x")
    known = recall(path, [*KEYS, b"new"])
    assert b"new" in known
    assert 0 < len(known) < 20
    assert size < 100_000


@pytest.mark.parametrize("damage", [b"", b"no database" * 100])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "turns.sqlite3"
    with SqliteTurnStore(path, 1000) as store:
        store.remember(b"old", b"x")
    path.write_bytes(damage)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert recall(path, [b"old"]) == set()
    with SqliteTurnStore(path, 1000) as store:
        store.remember(b"new", b"x")
    assert recall(path, [b"new"]) == {b"new"}


def test_recall_returns_nothing_where_no_file_can_be_written(tmp_path: Path) -> None:
    assert recall(tmp_path / "nowhere" / "turns.sqlite3", [b"key"]) == set()
