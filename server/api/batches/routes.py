"""/v1/batches: requests of a file, answered when no other request waits."""

import time
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from server.access.keys import Role
from server.api.batches.endpoints import ENDPOINTS
from server.api.batches.reply import batch_reply
from server.api.batches.wire import Batch, BatchPage, CreateBatch
from server.api.batches.worker import files_job, start_job
from server.errors import RequestError
from server.http.paging import page, page_reply
from server.jobs.runner import JobRunner
from server.services import Services
from server.storage.file_records import new_id
from server.storage.records import BatchOptions, BatchRecord

_HOUR = 3600  # seconds

Limit = Annotated[int, QueryParameter(ge=1, le=100)]


class BatchController(Controller):
    path = "/v1/batches"

    @post("/", status_code=200, operation_id="createBatch", opt={"role": Role.WRITE})
    async def create(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[CreateBatch],
        services: NamedDependency[Services],
        job_runner: NamedDependency[JobRunner],
    ) -> Batch:
        if data.endpoint not in ENDPOINTS:
            message = f"Batches cannot use the endpoint {data.endpoint!r}; they can use: {', '.join(ENDPOINTS)}."
            raise RequestError(message, "endpoint", "invalid_value")
        await services.files.get_file(data.input_file_id)
        window, now = data.completion_window, int(time.time())
        batch = BatchRecord(
            id=new_id("batch", "_"),
            endpoint=data.endpoint,
            input_file_id=data.input_file_id,
            completion_window=window,
            status="validating",
            created_at=now,
            expires_at=now + int(window[:-1]) * (_HOUR if window.endswith("h") else 24 * _HOUR),
            metadata=data.metadata or {},
        )
        keep_s = data.output_expires_after.seconds if data.output_expires_after else None
        await services.batches.add(batch, BatchOptions(services.principal, str(request.base_url), keep_s))
        await job_runner.add([start_job(batch.id)])
        return batch_reply(batch)

    @get("/", operation_id="listBatches")
    async def list_batches(
        self, services: NamedDependency[Services], limit: Limit = 20, after: FromQuery[str | None] = None
    ) -> BatchPage:
        """List batches, the newest first."""
        batches = page(await services.batches.list_batches(), lambda batch: batch.id, limit, "desc", after)
        data = [batch_reply(batch) for batch in batches.items]
        return page_reply(BatchPage, data, has_more=batches.has_more)

    @get("/{batch_id:str}", operation_id="retrieveBatch")
    async def retrieve(self, batch_id: FromPath[str], services: NamedDependency[Services]) -> Batch:
        return batch_reply(await services.batches.get(batch_id))

    @post("/{batch_id:str}/cancel", status_code=200, operation_id="cancelBatch", opt={"role": Role.WRITE})
    async def cancel(
        self,
        batch_id: FromPath[str],
        services: NamedDependency[Services],
        job_runner: NamedDependency[JobRunner],
    ) -> Batch:
        """Stop a batch. The lines that were answered are in its output files."""
        batch = await services.batches.update(batch_id, _cancel)
        if batch.status == "cancelling":
            await job_runner.stop(batch_id)
            await job_runner.add([files_job(batch_id)])
        return batch_reply(batch)


def _cancel(batch: BatchRecord) -> BatchRecord:
    """Raises `RequestError` for a batch that is over."""
    if batch.is_over and batch.status != "cancelled":
        raise RequestError(f"The batch {batch.id} is {batch.status}; it cannot be cancelled.", None, "invalid_value")
    if batch.status in ("validating", "in_progress"):
        return msgspec.structs.replace(batch, status="cancelling", cancelling_at=int(time.time()))
    return batch
