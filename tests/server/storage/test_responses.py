"""What is kept of responses: within its bytes, along a chain, each owner's own."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.access.keys import Role
from server.access.principal import UNRESTRICTED, Principal
from server.api.responses.reply import begun
from server.api.responses.wire import Item, OutputMessage, OutputText, ResponseObject, ResponseRequest
from server.errors import ResponseNotFound
from server.storage.sqlite.responses import FILE, Pending, ResponseStore, Stored


def _response(text: str, before: str | None = None, **fields: Any) -> ResponseObject:
    response = begun(ResponseRequest(previous_response_id=before))
    message = OutputMessage(id=f"msg_{response.id}", status="completed", content=[OutputText(text=text)])
    return msgspec.structs.replace(response, status="completed", output=[message], **fields)


def _stored(text: str, before: str | None = None) -> Stored:
    return Stored(_response(text, before), [Item(type="message", role="user", content=f"{text}?")])


def test_a_chain_is_told_from_its_beginning(tmp_path: Path) -> None:
    async def check(store: ResponseStore) -> None:
        first = _stored("one")
        second = _stored("two", first.response.id)
        await store.add(first)
        await store.add(second)
        history = await store.history(second.response.id)
        assert [item.role for item in history] == ["user", "assistant"] * 2
        assert [item.content for item in history][::2] == ["one?", "two?"]
        await store.remove(first.response.id)
        with pytest.raises(ResponseNotFound):
            await store.history(second.response.id)

    with ResponseStore(tmp_path, 1_000_000) as store:
        asyncio.run(check(store))
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_the_least_used_go_first_and_unfinished_ones_stay(tmp_path: Path) -> None:
    async def check(store: ResponseStore) -> None:
        waiting = _stored("later")
        request = Pending(ResponseRequest(input="later?"), "http://x/", UNRESTRICTED)
        await store.add(msgspec.structs.replace(waiting, pending=request))
        kept = [_stored(f"{number}" * 1000) for number in range(20)]
        for each in kept:
            await store.add(each)
            await store.get(kept[0].response.id)
        assert (await store.get(kept[0].response.id)).response == kept[0].response
        with pytest.raises(ResponseNotFound):
            await store.get(kept[1].response.id)
        assert (await store.get(kept[-1].response.id)).items == kept[-1].items
        assert await store.unfinished() == [waiting.response.id]
        assert await store.change(waiting.response, is_over=True)
        assert not await store.change(waiting.response, is_over=True), "it is over"
        assert await store.unfinished() == []

    with ResponseStore(tmp_path, 12_000) as store:
        asyncio.run(check(store))


@pytest.mark.parametrize("collections", [frozenset({"x"}), None])
@pytest.mark.parametrize("role", [Role.READ, Role.WRITE])
def test_a_key_sees_its_own(tmp_path: Path, collections: frozenset[str] | None, role: Role) -> None:
    async def check(store: ResponseStore) -> None:
        stored = _stored("secret")
        mine, other = (store.seen_by(Principal("ci", role, collections, id)) for id in ("key_1", "key_2"))
        await mine.add(stored)
        assert (await mine.get(stored.response.id)).response == stored.response
        for look in (other.get, other.history, other.remove, other.cancel):
            with pytest.raises(ResponseNotFound):
                await look(stored.response.id)
        assert await other.items([stored.response.output[0].id]) == {}
        assert (await store.get(stored.response.id)).response == stored.response

    with ResponseStore(tmp_path, 1_000_000) as store:
        asyncio.run(check(store))
