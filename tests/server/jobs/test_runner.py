"""The job runner, over job stores in memory and in SQLite."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from index.errors import StorageFull
from models.errors import ModelDoesNotFit, ProcessFailed, QueueFull
from server.jobs import runner as runner_module
from server.jobs.runner import NUM_WORKERS, JobRunner, retry_when_available
from server.storage.base import JobStore
from server.storage.records import Job, NewJob
from server.storage.sqlite.jobs import SqliteJobStore
from tests.server.storage.memory import MemoryJobStore

STORES: list[Callable[[Path], AbstractContextManager[JobStore]]] = [SqliteJobStore, lambda _: MemoryJobStore()]
Run = Callable[[Callable[[JobStore], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=STORES, ids=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function that runs a check with a newly opened store."""

    def run_check(check: Callable[[JobStore], Coroutine[Any, Any, None]]) -> None:
        with request.param(tmp_path) as store:
            asyncio.run(asyncio.wait_for(check(store), 20))

    return run_check


def job(id: str, kind: str = "line", subject: str = "s") -> NewJob:
    return NewJob(id=id, kind=kind, subject=subject)


class Handler:
    """A job handler that records its jobs and holds each until `may_end`."""

    def __init__(self) -> None:
        self.job_ids: list[str] = []
        self.cancelled: list[str] = []
        self.may_end = asyncio.Event()

    async def __call__(self, job: Job) -> None:
        self.job_ids.append(job.id)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job.id)
            raise


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_jobs_run_a_few_at_a_time_in_the_order_of_their_kinds(run: Run) -> None:
    async def check(store: JobStore) -> None:
        handler = Handler()
        await store.add([job(f"line-{number}") for number in range(6)])
        await store.add([job("response", "response")])
        async with JobRunner(store, {"response": handler, "line": handler}) as runner:
            await until(lambda: len(handler.job_ids) == NUM_WORKERS)
            await asyncio.sleep(0.05)
            assert handler.job_ids == ["response", "line-0", "line-1", "line-2"]
            handler.may_end.set()
            await until(lambda: len(handler.job_ids) == 7)
            await runner.add([job("another")])
            await until(lambda: "another" in handler.job_ids)
            await asyncio.sleep(0.1)  # it completes
        assert await store.lease(["response", "line"], "w", 1.0) is None, "each was completed"

    run(check)


def test_a_job_that_fails_is_tried_again_later(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "_RETRY_AFTER_S", 0.05)
    monkeypatch.setattr(runner_module, "_POLL_S", 0.02)
    attempts: list[str] = []

    async def fail_once(job: Job) -> None:
        attempts.append(job.id)
        if len(attempts) == 1:
            raise OSError("the disk is full")

    async def check(store: JobStore) -> None:
        await store.add([job("a")])
        async with JobRunner(store, {"line": fail_once}):
            await until(lambda: len(attempts) == 2)
            await asyncio.sleep(0.1)
        assert attempts == ["a", "a"]

    run(check)


def test_stopping_a_subject_cancels_and_removes_its_jobs(run: Run) -> None:
    async def check(store: JobStore) -> None:
        handler = Handler()
        await store.add([job("a", subject="one"), job("b", subject="two")])
        async with JobRunner(store, {"line": handler}) as runner:
            await until(lambda: len(handler.job_ids) == 2)
            await store.add([job("c", subject="one")], 1000)
            await runner.stop("one")
            await until(lambda: handler.cancelled == ["a"])
            handler.may_end.set()
            await asyncio.sleep(0.1)  # "b" completes
        assert await store.lease(["line"], "w", 1.0) is None
        await store.add([job("c", subject="one")])
        assert await store.lease(["line"], "w", 1.0) is not None, "it had been removed, so this one is new and due"

    run(check)


def test_a_job_that_another_worker_has_taken_is_cancelled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "_EXTEND_AFTER_S", 0.05)

    async def check(store: JobStore) -> None:
        handler = Handler()
        await store.add([job("a")])
        async with JobRunner(store, {"line": handler}):
            await until(lambda: len(handler.job_ids) == 1)
            await asyncio.sleep(0.15)
            assert handler.cancelled == [], "its lease is extended"
            await store.remove("s")
            await until(lambda: handler.cancelled == ["a"])

    run(check)


def test_jobs_that_run_when_the_server_stops_are_released(run: Run) -> None:
    async def check(store: JobStore) -> None:
        handler = Handler()
        await store.add([job("a")])
        async with JobRunner(store, {"line": handler}):
            await until(lambda: len(handler.job_ids) == 1)
        assert handler.cancelled == ["a"]
        leased = await store.lease(["line"], "w", 1.0)
        assert leased is not None and leased.id == "a"

    run(check)


class FailingJobStore(MemoryJobStore):
    """A job store whose first leases fail."""

    num_failures = 12

    async def lease(self, kinds: Sequence[str], worker: str, lease_s: float) -> Job | None:
        if self.num_failures:
            self.num_failures -= 1
            raise StorageFull("the disk is full")
        return await super().lease(kinds, worker, lease_s)


def test_a_store_that_fails_is_logged_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner_module, "_POLL_S", 0.02)

    async def check() -> None:
        store, handler = FailingJobStore(), Handler()
        await store.add([job("a")])
        async with JobRunner(store, {"line": handler}):
            await until(lambda: handler.job_ids == ["a"])

    asyncio.run(asyncio.wait_for(check(), 20))
    assert [record.message for record in caplog.records if "leased" in record.message] == [
        "no job can be leased: StorageFull; trying again every 0 s"
    ]


def test_a_request_is_retried_until_the_queue_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    def run(*errors: Exception) -> str:
        remaining = list(errors)

        async def attempt() -> str:
            if remaining:
                raise remaining.pop(0)
            return "done"

        return asyncio.run(retry_when_available(attempt))

    full, failed = QueueFull(3, retry_after=2), ProcessFailed("engine", "gone")
    assert run(full, full, ModelDoesNotFit("m", 2, 1, retry_after=7), failed, failed) == "done"
    assert waited == [2, 2, 7, 1, 1]
    for errors in ([failed] * 3, [ModelDoesNotFit("m", 2, 1)], [ValueError()]):
        with pytest.raises(type(errors[0])):
            run(*errors)
