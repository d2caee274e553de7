"""The contract of a job store: leases, their expiry and extension, completion, and that two workers never hold one."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from server.storage.base import JobStore
from server.storage.records import NewJob
from server.storage.sqlite.jobs import SqliteJobStore
from tests.server.storage.memory import MemoryJobStore

Open = Callable[[Path], AbstractContextManager[JobStore]]
STORES: list[Open] = [SqliteJobStore, lambda _: MemoryJobStore()]
Run = Callable[[Callable[[JobStore], Coroutine[Any, Any, None]]], None]
KINDS = ["first", "second"]
LONG_S = 1000.0


@pytest.fixture(params=STORES, ids=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function that runs a check with a newly opened store."""
    opener: Open = request.param

    def run_check(check: Callable[[JobStore], Coroutine[Any, Any, None]]) -> None:
        with opener(tmp_path) as store:
            asyncio.run(check(store))

    return run_check


def new(id: str, kind: str = "first", subject: str = "s", position: int | None = None, part: int = 0) -> NewJob:
    return NewJob(id=id, kind=kind, subject=subject, part=part, position=position)


async def leased_ids(store: JobStore, kinds: list[str] = KINDS) -> list[str]:
    """Lease everything that is due; return the ids in that order."""
    ids = []
    while (job := await store.lease(kinds, "w", LONG_S)) is not None:
        ids.append(job.id)
    return ids


def test_jobs_are_leased_by_kind_then_position_then_age(run: Run) -> None:
    async def check(store: JobStore) -> None:
        await store.add([new("a", "second"), new("b", "second"), new("c", "first")])
        await store.add([new("d", "second", position=0), new("e", "second", position=1), new("f", "third")])
        job = await store.lease(KINDS, "w", LONG_S)
        assert job is not None and (job.id, job.kind, job.subject, job.worker) == ("c", "first", "s", "w")
        assert await leased_ids(store) == ["d", "a", "e", "b"]
        assert await leased_ids(store, ["third"]) == ["f"]

    run(check)


def test_a_job_without_a_position_goes_behind_all_others(run: Run) -> None:
    async def check(store: JobStore) -> None:
        await store.add([new("a", position=7, part=3)])
        await store.add([new("b")])
        job = await store.lease(KINDS, "w", LONG_S)
        assert job is not None and (job.id, job.part, job.position) == ("a", 3, 7)
        assert await leased_ids(store) == ["b"]

    run(check)


def test_a_job_is_held_by_one_worker_at_a_time(run: Run) -> None:
    async def check(store: JobStore) -> None:
        await store.add([new(str(number)) for number in range(30)])

        async def work(worker: str) -> list[str]:
            ids = []
            while (job := await store.lease(KINDS, worker, LONG_S)) is not None:
                ids.append(job.id)
            return ids

        leases = await asyncio.gather(*(work(f"w{number}") for number in range(5)))
        assert sorted(id for ids in leases for id in ids) == sorted(str(number) for number in range(30))

    run(check)


def test_a_lease_ends_and_an_extended_one_does_not(run: Run) -> None:
    async def check(store: JobStore) -> None:
        await store.add([new("short"), new("extended")])
        short, extended = [await store.lease(KINDS, "w1", 0.05) for _ in range(2)]
        assert short is not None and extended is not None
        assert await store.extend(extended, LONG_S)
        await asyncio.sleep(0.1)
        again = await store.lease(KINDS, "w2", LONG_S)
        assert again is not None and (again.id, again.worker) == ("short", "w2")
        assert await store.lease(KINDS, "w2", LONG_S) is None
        assert not await store.extend(short, LONG_S), "the other worker has it"
        assert not await store.complete(short)
        assert not await store.release(short)
        assert await store.complete(again)

    run(check)


def test_a_completed_job_is_never_leased_again(run: Run) -> None:
    async def check(store: JobStore) -> None:
        await store.add([new("a")])
        job = await store.lease(KINDS, "w", 0.0)
        assert job is not None and await store.complete(job)
        assert await store.lease(KINDS, "w", LONG_S) is None
        assert not await store.extend(job, LONG_S)

    run(check)


def test_a_released_job_is_leased_again_after_its_delay(run: Run) -> None:
    async def check(store: JobStore) -> None:
        await store.add([new("a"), new("b")])
        first, second = [await store.lease(KINDS, "w", LONG_S) for _ in range(2)]
        assert first is not None and second is not None
        assert await store.release(first)
        assert await store.release(second, 0.1)
        assert await leased_ids(store) == ["a"]
        await asyncio.sleep(0.15)
        assert await leased_ids(store) == ["b"]

    run(check)


def test_adding_a_job_again_makes_it_due_earlier_unless_it_is_held(run: Run) -> None:
    async def check(store: JobStore) -> None:
        await store.add([new("a")], LONG_S)
        assert await leased_ids(store) == []
        await store.add([new("a")], 2 * LONG_S)
        await store.add([new("a")])
        assert await leased_ids(store) == ["a"]
        await store.add([new("a")])
        assert await leased_ids(store) == [], "it is held"

    run(check)


def test_removing_a_subject_takes_its_jobs_from_their_workers(run: Run) -> None:
    async def check(store: JobStore) -> None:
        await store.add([new("a", subject="one"), new("b", subject="one"), new("c", subject="two")])
        lease = await store.lease(KINDS, "w", LONG_S)
        assert lease is not None and lease.id == "a"
        await store.remove("one")
        assert not await store.extend(lease, LONG_S)
        assert not await store.complete(lease)
        assert await leased_ids(store) == ["c"]

    run(check)


def test_jobs_leased_when_the_server_was_killed_are_leased_again(tmp_path: Path) -> None:
    async def add_and_lease(store: JobStore) -> None:
        await store.add([new("a"), new("b")])
        await store.add([new("later")], LONG_S)
        assert await store.lease(KINDS, "w", LONG_S) is not None

    async def check(store: JobStore) -> None:
        assert await leased_ids(store) == ["a", "b"]

    started = time.monotonic()
    with SqliteJobStore(tmp_path) as store:
        asyncio.run(add_and_lease(store))
    with SqliteJobStore(tmp_path) as store:
        asyncio.run(check(store))
    assert time.monotonic() - started < LONG_S / 10
