"""Makes the responses that were requested with `background: true`."""

import asyncio
import contextlib

import msgspec

from server.api.responses.archive import ResponseArchive, StoredResponse
from server.api.responses.reply import failed_response
from server.api.responses.service import complete_response
from server.errors import ResponseNotFound
from server.http.problems import problem_of
from server.jobs.runner import JobHandler, retry_when_available
from server.services import Services
from server.storage.records import Job, NewJob

RESPONSE = "response"  # kind of job
_POLL_S = 1.0


def response_job(response_id: str) -> NewJob:
    """Return the job that makes a response."""
    return NewJob(id=response_id, kind=RESPONSE, subject=response_id)


class BackgroundResponses:
    """Handles the jobs of background responses, and lets others wait for a response."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._archive = ResponseArchive(services.responses)
        self._ended = asyncio.Condition()

    @property
    def handlers(self) -> dict[str, JobHandler]:
        """Return the handlers by kind of job."""
        return {RESPONSE: self.make}

    async def enqueue_unfinished(self) -> None:
        """Add a job for each response that is not over, should the queue have lost it."""
        unfinished = await self._services.responses.list_unfinished()
        await self._services.jobs.add([response_job(id) for id in unfinished])

    async def make(self, job: Job) -> None:
        """Make the response; an error is its outcome too."""
        try:
            await self._make(job.subject)
        finally:
            await self.notify_ended()

    async def _make(self, id: str) -> None:
        try:
            stored = await self._archive.get(id)
        except ResponseNotFound:
            return
        if stored.pending is None:
            return
        stored = msgspec.structs.replace(
            stored, response=msgspec.structs.replace(stored.response, status="in_progress")
        )
        await self._archive.update(stored)
        try:
            response = await retry_when_available(lambda: complete_response(stored, self._services))
        except Exception as error:  # the client finds it in the response
            response = failed_response(stored.response, problem_of(error))
        await self._archive.update(StoredResponse(response, stored.items))

    async def notify_ended(self) -> None:
        """Wake those who wait for a response."""
        async with self._ended:
            self._ended.notify_all()

    async def wait_until_over(self, id: str, services: Services) -> None:
        """Return when the response is over. `services` are those of the principal who waits. Raises
        `ResponseNotFound`."""
        while not (await services.responses.get(id)).is_over:
            async with self._ended:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):  # it may have ended in between
                        await self._ended.wait()
