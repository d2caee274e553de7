"""Cursor pagination: the cursors are ids of items that the client has."""

from collections.abc import Callable, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from server.errors import RequestError

Order = Literal["asc", "desc"]
T = TypeVar("T")
Reply = TypeVar("Reply")


class HasId(Protocol):
    """A wire object with an id, which a client can use as a cursor."""

    @property
    def id(self) -> str | None: ...


WireObject = TypeVar("WireObject", bound=HasId)


class Page(NamedTuple, Generic[T]):
    items: Sequence[T]
    has_more: bool


def page(
    items: Sequence[T],
    id_of: Callable[[T], str],
    limit: int,
    order: Order,
    after: str | None = None,
    before: str | None = None,
) -> Page[T]:
    """Return the first `limit` items after `after`, or the last ones before `before`, in `order`.

    `items` are in ascending order. Raises `RequestError` for a cursor that is not in the list.
    """
    if order == "desc":
        items = items[::-1]
    ids = [id_of(item) for item in items] if after or before else []
    start = _position(ids, after, "after") + 1 if after else 0
    end = _position(ids, before, "before") if before else len(items)
    if before and not after:
        start = max(start, end - limit)
        return Page(items[start:end], start > 0)
    return Page(items[start:end][:limit], end - start > limit)


def _position(ids: Sequence[str], id: str, param: str) -> int:
    if id not in ids:
        raise RequestError(f"There is no {id!r} in this list; use the id of one of its items.", param, "invalid_value")
    return ids.index(id)


def page_reply(
    kind: Callable[[list[WireObject], str | None, str | None, bool], Reply], data: list[WireObject], *, has_more: bool
) -> Reply:
    """Return the reply for a page of objects, with the ids of the first and the last."""
    first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
    return kind(data, first_id, last_id, has_more)
