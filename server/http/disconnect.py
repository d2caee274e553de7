"""Stop the work for a request when its client disconnects."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request

from server.errors import ClientDisconnected

T = TypeVar("T")


async def cancel_on_disconnect(request: Request[Any, Any, Any], work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the work; cancel it and raise `ClientDisconnected` when the client disconnects first.

    The server does not cancel a handler that returns one body when its client disconnects, so the handler checks it.
    """
    work_task = asyncio.ensure_future(work)
    disconnect_task = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({work_task, disconnect_task}, return_when=asyncio.FIRST_COMPLETED)
        if work_task.done():
            return work_task.result()
        raise ClientDisconnected
    finally:
        for task in (work_task, disconnect_task):
            task.cancel()
            with contextlib.suppress(
                asyncio.CancelledError, Exception
            ):  # the result was returned above, or nobody wants it
                await task


async def _wait_for_disconnect(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
