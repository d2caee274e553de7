"""Stored responses, from and to the JSON of a `ResponseStore`."""

from collections.abc import Sequence

import msgspec

from server.access.principal import Principal
from server.api.responses.items import InputItem
from server.api.responses.wire import ResponseObject, ResponseRequest
from server.errors import ResponseNotCancellable
from server.storage.base import ResponseStore
from server.storage.records import ResponseRecord

_CANCELLABLE = ("queued", "in_progress", "cancelled")


class PendingResponse(msgspec.Struct, frozen=True):
    """A request whose response is generated later, also after a restart. `base_url` is where its links begin."""

    request: ResponseRequest
    base_url: str
    principal: Principal


class StoredResponse(msgspec.Struct, frozen=True):
    """`items` is the response's own input. `pending` is None once the response is over."""

    response: ResponseObject
    items: list[InputItem]
    pending: PendingResponse | None = None


class ResponseArchive:
    """The responses that the principal of `store` may see."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

    async def add(self, stored: StoredResponse) -> None:
        await self._store.add(_encode(stored))

    async def get(self, id: str) -> StoredResponse:
        """Return a stored response. Raises `ResponseNotFound`."""
        return _decode(await self._store.get(id))

    async def history(self, id: str) -> list[InputItem]:
        """Return input and output of all responses up to this one. Raises `ResponseNotFound`, also for one before
        it."""
        items: list[InputItem] = []
        for record in await self._store.history(id):
            items += msgspec.json.decode(record.input_items, type=list[InputItem])
            items += _output_items(record)
        return items

    async def output_items(self, ids: Sequence[str]) -> dict[str, InputItem]:
        """Return the output items that have these ids, as far as there are any."""
        records = await self._store.find_by_output(ids)
        items = (item for record in records for item in _output_items(record))
        return {item.id: item for item in items if item.id is not None and item.id in ids}

    async def update(self, stored: StoredResponse) -> bool:
        """Replace a response that is not over. Return False, and change nothing, when it is over or gone."""
        return await self._store.update(_encode(stored))

    async def cancel(self, id: str) -> ResponseObject:
        """End a response that is made in the background. Raises `ResponseNotFound`, `ResponseNotCancellable`."""
        stored = await self.get(id)
        response = stored.response
        if not response.background or response.status not in _CANCELLABLE:
            raise ResponseNotCancellable(id, response.status, is_background=response.background)
        cancelled = msgspec.structs.replace(response, status="cancelled")
        await self.update(StoredResponse(cancelled, stored.items))
        return cancelled


class _Output(msgspec.Struct):
    """The output of a response, as input of the one that follows."""

    output: list[InputItem]


def _output_items(record: ResponseRecord) -> list[InputItem]:
    return msgspec.json.decode(record.response, type=_Output).output


def _encode(stored: StoredResponse) -> ResponseRecord:
    response = stored.response
    return ResponseRecord(
        id=response.id,
        previous_id=response.previous_response_id,
        response=msgspec.json.encode(response),
        input_items=msgspec.json.encode(stored.items),
        output_ids=tuple(item.id for item in response.output),
        pending=None if stored.pending is None else msgspec.json.encode(stored.pending),
    )


def _decode(record: ResponseRecord) -> StoredResponse:
    return StoredResponse(
        msgspec.json.decode(record.response, type=ResponseObject),
        msgspec.json.decode(record.input_items, type=list[InputItem]),
        None if record.pending is None else msgspec.json.decode(record.pending, type=PendingResponse),
    )
