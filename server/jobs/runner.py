"""Runs the jobs that nobody waits for, a few at a time, so that the engine can decode them together."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self, TypeVar

from models.errors import ModelDoesNotFit, ProcessFailed, ProcessUnavailable, QueueFull
from server.storage.base import JobStore
from server.storage.records import Job, NewJob

_log = logging.getLogger(__name__)

NUM_WORKERS = 4
_LEASE_S, _EXTEND_AFTER_S = 60.0, 20.0
_POLL_S = 5.0  # how often to look for jobs that have become due
_RETRY_AFTER_S = 30.0  # after a failure of a job's handler: the disk is full, say
_MAX_PROCESS_FAILURES = 3  # under one attempt: it may be what kills the process

JobHandler = Callable[[Job], Awaitable[None]]
T = TypeVar("T")


class JobRunner:
    """Leases jobs and hands each to the handler of its kind. Kinds are leased in the order of `handlers`.

    A context manager. Jobs that run when it is left are released, to begin anew another time. A handler that raises is
    called again later, so it must be safe to run twice.
    """

    def __init__(self, store: JobStore, handlers: Mapping[str, JobHandler]) -> None:
        self._store = store
        self._handlers = handlers
        self._has_work = asyncio.Event()
        self._is_failing = False  # the last lease raised; it is logged once
        self._workers: list[asyncio.Task[None]] = []
        self._running: dict[str, tuple[Job, asyncio.Task[None]]] = {}  # by the job's id

    async def __aenter__(self) -> Self:
        run_id = secrets.token_hex(4)
        self._workers = [
            asyncio.create_task(self._work(f"{run_id}-{number}"), name="jobs") for number in range(NUM_WORKERS)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def add(self, jobs: Sequence[NewJob], delay_s: float = 0.0) -> None:
        """Add jobs to the store, and have the workers look for them at once."""
        await self._store.add(jobs, delay_s)
        self._has_work.set()

    async def stop(self, subject: str) -> None:
        """Remove all jobs of a subject, and cancel those that run here."""
        await self._store.remove(subject)
        for job, task in self._running.values():
            if job.subject == subject:
                task.cancel()

    async def _work(self, worker: str) -> None:
        while True:
            job = await self._lease(worker)
            self._has_work.set()  # there may be more, for the other workers
            try:
                await self._run(job)
            except Exception as error:  # of the store; the lease ends by itself
                _log.error("the state of the job %s cannot be kept: %s", job.id, type(error).__name__)
            self._has_work.set()

    async def _lease(self, worker: str) -> Job:
        while True:
            self._has_work.clear()
            try:
                job = await self._store.lease(list(self._handlers), worker, _LEASE_S)
                self._is_failing = False
                if job is not None:
                    return job
            except Exception as error:  # a worker that ended would leave all later jobs waiting
                if not self._is_failing:
                    _log.error("no job can be leased: %s; trying again every %d s", type(error).__name__, _POLL_S)
                self._is_failing = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._has_work.wait()

    async def _run(self, job: Job) -> None:
        """Call the job's handler, extending the lease meanwhile; then complete the job, or let it be tried again."""
        task = asyncio.ensure_future(self._handle(job))
        self._running[job.id] = (job, task)
        try:
            while not (await asyncio.wait({task}, timeout=_EXTEND_AFTER_S))[0]:
                if not await self._store.extend(job, _LEASE_S):
                    task.cancel()
        except BaseException:  # also a cancellation: the handler ends first, then others may have the job
            task.cancel()
            await asyncio.wait({task})
            await self._store.release(job)
            raise
        finally:
            del self._running[job.id]
        if task.cancelled():
            return  # it was stopped, or is another worker's
        if (error := task.exception()) is None:
            await self._store.complete(job)
        else:
            _log.error("the job %s failed: %s; trying again in %d s", job.id, type(error).__name__, _RETRY_AFTER_S)
            await self._store.release(job, _RETRY_AFTER_S)

    async def _handle(self, job: Job) -> None:
        await self._handlers[job.kind](job)


async def retry_when_available(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `attempt`, calling it again while no process or no room is there for it.

    Raises everything else, and `ProcessFailed` when the process failed three times.
    """
    num_failures = 0
    while True:
        try:
            return await attempt()
        except (QueueFull, ProcessUnavailable) as error:
            wait_s = float(error.retry_after)
        except ModelDoesNotFit as error:
            if error.retry_after is None:
                raise
            wait_s = float(error.retry_after)
        except ProcessFailed:
            num_failures += 1
            if num_failures == _MAX_PROCESS_FAILURES:
                raise
            wait_s = 1.0
        await asyncio.sleep(wait_s)
