"""The contract of a response store."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.access.keys import Role
from server.access.principal import Principal
from server.errors import ResponseNotFound
from server.storage.base import ResponseStore
from server.storage.records import ResponseRecord
from server.storage.sqlite.responses import RESPONSES_FILE, SqliteResponseStore
from tests.server.storage.memory import MemoryResponseStore

Open = Callable[[Path, int], AbstractContextManager[ResponseStore]]
STORES: list[Open] = [SqliteResponseStore, lambda _, max_bytes: MemoryResponseStore(max_bytes)]
Run = Callable[..., None]


@pytest.fixture(params=STORES, ids=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function that runs a check with a newly opened store."""
    opener: Open = request.param

    def run_check(check: Callable[[ResponseStore], Coroutine[Any, Any, None]], max_bytes: int = 1_000_000) -> None:
        with opener(tmp_path, max_bytes) as store:
            asyncio.run(check(store))

    return run_check


def record(id: str, previous_id: str | None = None, size: int = 2, pending: bytes | None = None) -> ResponseRecord:
    return ResponseRecord(
        id=id,
        previous_id=previous_id,
        response=b"x" * size,
        input_items=b"[]",
        output_ids=(f"msg_{id}",),
        pending=pending,
    )


def test_a_response_is_found_by_its_id_and_its_output(run: Run) -> None:
    async def check(store: ResponseStore) -> None:
        first, second = record("one"), record("two", "one")
        await store.add(first)
        await store.add(second)
        record_two = await store.get("two")
        assert (record_two.response, record_two.input_items, record_two.previous_id) == (b"xx", b"[]", "one")
        assert record_two.is_over
        assert [each.id for each in await store.find_by_output(["msg_two", "msg_x"])] == ["two"]

    run(check)


def test_history_is_the_chain_from_its_beginning(run: Run) -> None:
    async def check(store: ResponseStore) -> None:
        for each in (record("one"), record("two", "one"), record("three", "two")):
            await store.add(each)
        assert [each.id for each in await store.history("three")] == ["one", "two", "three"]
        await store.remove("one")
        with pytest.raises(ResponseNotFound):
            await store.history("three")
        with pytest.raises(ResponseNotFound):
            await store.remove("one")

    run(check)


def test_least_recently_used_responses_are_deleted_first_and_unfinished_ones_stay(run: Run) -> None:
    async def check(store: ResponseStore) -> None:
        await store.add(record("waiting", pending=b"{}"))
        for number in range(20):
            await store.add(record(f"{number}", size=1000))
            await store.get("0")
        assert (await store.get("0")).id == "0"
        with pytest.raises(ResponseNotFound):
            await store.get("1")
        assert (await store.get("19")).id == "19"
        assert await store.list_unfinished() == ["waiting"]

    run(check, 12_000)


def test_a_finished_response_is_not_updated(run: Run) -> None:
    async def check(store: ResponseStore) -> None:
        waiting = record("waiting", pending=b"{}")
        await store.add(waiting)
        assert await store.update(msgspec.structs.replace(waiting, response=b"in progress"))
        assert await store.list_unfinished() == ["waiting"]
        over = msgspec.structs.replace(waiting, response=b"over", pending=None, output_ids=("msg_new",))
        assert await store.update(over)
        assert not await store.update(waiting), "it is over"
        assert not await store.update(record("unknown", pending=b"{}"))
        assert (await store.get("waiting")).response == b"over"
        assert [each.id for each in await store.find_by_output(["msg_new"])] == ["waiting"]
        assert await store.list_unfinished() == []

    run(check)


@pytest.mark.parametrize("collections", [frozenset({"x"}), None])
@pytest.mark.parametrize("role", [Role.READ, Role.WRITE])
def test_a_key_sees_only_its_own_responses(run: Run, collections: frozenset[str] | None, role: Role) -> None:
    async def check(store: ResponseStore) -> None:
        mine, other = (store.seen_by(Principal("ci", role, collections, id)) for id in ("key_1", "key_2"))
        await mine.add(record("secret"))
        assert (await mine.get("secret")).id == "secret"
        for look in (other.get, other.history, other.remove):
            with pytest.raises(ResponseNotFound):
                await look("secret")
        assert await other.find_by_output(["msg_secret"]) == []
        assert (await store.get("secret")).id == "secret"

    run(check)


def test_the_file_is_readable_by_its_user_only(tmp_path: Path) -> None:
    with SqliteResponseStore(tmp_path, 1000):
        assert (tmp_path / RESPONSES_FILE).stat().st_mode & 0o777 == 0o600
