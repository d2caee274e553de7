"""/v1/batches: many requests in a file, done when nobody waits for anything else."""

import time
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from server.api.batches.endpoints import ENDPOINTS
from server.api.batches.wire import Batch, BatchPage, CreateBatch
from server.errors import RequestError
from server.files.records import new_id
from server.http.paging import page
from server.jobs.batches import BatchWork
from server.jobs.runner import JobRunner
from server.services import Services
from server.storage.sqlite.batches import OVER, Order

_HOUR = 3600  # seconds

Limit = Annotated[int, QueryParameter(ge=1, le=100)]


class BatchController(Controller):
    path = "/v1/batches"

    @post("/", status_code=200, operation_id="createBatch")
    async def create(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[CreateBatch],
        services: NamedDependency[Services],
        job_runner: NamedDependency[JobRunner],
    ) -> Batch:
        if data.endpoint not in ENDPOINTS:
            message = f"There is no endpoint {data.endpoint!r} for batches; there are: {', '.join(ENDPOINTS)}."
            raise RequestError(message, "endpoint", "invalid_value")
        await services.library.file(data.input_file_id)
        window, now = data.completion_window, int(time.time())
        batch = Batch(
            id=new_id("batch").replace("-", "_"),
            endpoint=data.endpoint,
            input_file_id=data.input_file_id,
            completion_window=window,
            status="validating",
            created_at=now,
            expires_at=now + int(window[:-1]) * (_HOUR if window.endswith("h") else 24 * _HOUR),
            metadata=data.metadata or {},
        )
        keep_s = data.output_expires_after.seconds if data.output_expires_after else None
        await services.batches.add(batch, Order(services.principal, str(request.base_url), keep_s))
        job_runner.wake()
        return batch

    @get("/", operation_id="listBatches")
    async def listing(
        self, services: NamedDependency[Services], limit: Limit = 20, after: FromQuery[str | None] = None
    ) -> BatchPage:
        """The newest first."""
        found = page(await services.batches.batches(), lambda batch: batch.id, limit, "desc", after)
        data = list(found.items)
        return BatchPage(data, data[0].id if data else None, data[-1].id if data else None, found.has_more)

    @get("/{batch_id:str}", operation_id="retrieveBatch")
    async def retrieve(self, batch_id: FromPath[str], services: NamedDependency[Services]) -> Batch:
        return await services.batches.get(batch_id)

    @post("/{batch_id:str}/cancel", status_code=200, operation_id="cancelBatch")
    async def cancel(
        self,
        batch_id: FromPath[str],
        services: NamedDependency[Services],
        job_runner: NamedDependency[JobRunner],
        batch_work: NamedDependency[BatchWork],
    ) -> Batch:
        """What is done of it stays, and is in its files."""
        batch = await services.batches.change(batch_id, _cancelled)
        await batch_work.stop(batch_id)
        job_runner.wake()
        return batch


def _cancelled(batch: Batch) -> Batch:
    """Raises `RequestError` for one that is over."""
    if batch.status in OVER and batch.status != "cancelled":
        raise RequestError(f"The batch {batch.id} is {batch.status}; it cannot be cancelled.", None, "invalid_value")
    if batch.status in ("validating", "in_progress"):
        return msgspec.structs.replace(batch, status="cancelling", cancelling_at=int(time.time()))
    return batch
