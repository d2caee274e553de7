"""Answer a generation over HTTP: as a stream of its events, or as one body."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import msgspec
from litestar import MediaType, Request, Response
from litestar.response import Stream

from server.http.disconnect import cancel_on_disconnect
from server.http.sse import event_stream

Event = TypeVar("Event", bound=msgspec.Struct, covariant=True)


class Reply(Protocol[Event]):
    """A generation in the shape of one API. `aclose` cancels what is left of the generation, and is idempotent."""

    def events(self) -> AsyncIterator[Event]: ...

    async def whole(self) -> Any: ...

    async def aclose(self) -> None: ...


StreamFactory = Callable[[AsyncIterator[Event], Callable[[], Awaitable[None]]], Stream]


async def respond(
    request: Request[Any, Any, Any],
    reply: Reply[Event],
    *,
    is_streamed: bool,
    stream: StreamFactory[Event] = event_stream,
) -> Response[Any]:
    """Return the reply's events as a stream, or its whole body, and close the reply when the response has ended.

    `stream` frames the events as the API's clients read them, and awaits its second argument at the end. Raises
    `ClientDisconnected` if the client leaves before the body is whole.
    """
    if is_streamed:
        return stream(reply.events(), reply.aclose)
    async with aclosing(reply):
        body = await cancel_on_disconnect(request, reply.whole())
    return Response(body, media_type=MediaType.JSON)
