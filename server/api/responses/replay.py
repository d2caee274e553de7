"""The event stream of a stored response: always the same events, so that a client can go on after any of them."""

import msgspec
from msgspec import UNSET

from server.api.responses.events import (
    ResponseCompleted,
    ResponseCreated,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
    ResponseQueued,
    ResponseStreamEvent,
)
from server.api.responses.item_writers import write_item
from server.api.responses.wire import ResponseObject
from server.errors import RequestError

_FINAL_EVENTS = {
    "completed": ResponseCompleted,
    "incomplete": ResponseIncomplete,
    "failed": ResponseFailed,
    "cancelled": ResponseFailed,
}


def final_event(response: ResponseObject) -> ResponseStreamEvent:
    """Return the last event of a response that is over."""
    return _FINAL_EVENTS[response.status](response=response)


def replay_events(response: ResponseObject, after: int = -1) -> list[ResponseStreamEvent]:
    """Return the events of a background response that is over, without the first ones up to number `after`."""
    events = [*initial_events(response)]
    for index, item in enumerate(response.output):
        events += write_item(item, index)
    events.append(final_event(response))
    return _number(events)[after + 1 :]


def initial_events(response: ResponseObject) -> list[ResponseStreamEvent]:
    """Return the first events of a background response, which are known as soon as it is queued."""
    queued = msgspec.structs.replace(
        response,
        status="queued",
        output=[],
        error=None,
        incomplete_details=None,
        completed_at=None,
        usage=None,
        rag=UNSET,
    )
    in_progress = msgspec.structs.replace(queued, status="in_progress")
    return _number(
        [ResponseCreated(response=queued), ResponseQueued(response=queued), ResponseInProgress(response=in_progress)]
    )


def _number(events: list[ResponseStreamEvent]) -> list[ResponseStreamEvent]:
    return [msgspec.structs.replace(event, sequence_number=number) for number, event in enumerate(events)]


def check_replayable(response: ResponseObject) -> None:
    """Check that the response has a replay. Raises `RequestError` for one that was not made in the background."""
    if not response.background:
        raise RequestError(f"{response.id} was not made in the background; get it without `stream`.", "stream")
