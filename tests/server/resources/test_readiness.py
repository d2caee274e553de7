"""Readiness is the result of a recent search, cached for a while."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from models.errors import ProcessFailed
from server.access.hosts import Hosts
from server.access.keys import Role
from server.access.middleware import Access
from server.resources import readiness
from server.resources.readiness import Readiness
from server.storage.local.keys import KeyFile
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving


class Search:
    """A search that counts its calls and raises the next of its errors."""

    def __init__(self) -> None:
        self.num_searches = 0
        self.error: Exception | None = None
        self.takes_s = 0.0

    async def __call__(self) -> None:
        self.num_searches += 1
        await asyncio.sleep(self.takes_s)
        if self.error:
            raise self.error


def looks(search: Search, times: list[float], can_answer: bool = True) -> list[bool]:
    now = iter(times)

    async def run() -> list[bool]:
        time_s = 0.0

        def clock() -> float:
            return time_s

        ready = Readiness(lambda: can_answer, search, clock)
        results = []
        for time_s in now:  # noqa: B007 - `clock` returns it
            results.append(await ready.check())
        return results

    return asyncio.run(run())


def test_readiness_searches_once_in_five_seconds_at_most() -> None:
    search = Search()
    assert looks(search, [0, 1, 4.9, 5, 6, 20]) == [True] * 6
    assert search.num_searches == 3


def test_readiness_does_not_search_without_the_processes() -> None:
    search = Search()
    assert looks(search, [0, 9], can_answer=False) == [False, False]
    assert search.num_searches == 0


def test_a_search_that_fails_or_takes_too_long_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_TIMEOUT_S", 0.05)
    failing, slow = Search(), Search()
    failing.error, slow.takes_s = ProcessFailed("encoder", "it was killed"), 5
    assert looks(failing, [0]) == looks(slow, [0]) == [False]


def test_concurrent_readiness_checks_share_one_search() -> None:
    search = Search()
    search.takes_s = 0.01

    async def run() -> list[bool]:
        ready = Readiness(lambda: True, search)
        return await asyncio.gather(*(ready.check() for _ in range(50)))

    assert asyncio.run(run()) == [True] * 50
    assert search.num_searches == 1


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    keys = KeyFile(tmp_path)
    _, text = keys.create("me", Role.READ, None, None, None)
    access = Access(Hosts("127.0.0.1", ["testserver.local"]), keys=keys)
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([]), access) as client:
        client.headers["x-test-key"] = text
        yield client


def test_readiness_gives_no_reasons_without_a_key(client: TestClient[Any]) -> None:
    key = {"Authorization": f"Bearer {client.headers['x-test-key']}"}
    assert client.get("/livez").json() == {"status": "alive"}
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (200, {"status": "ready"})
    assert client.get("/v1/models").status_code == 401
    assert client.get("/health").json()["processes"]["indexer"] == "unavailable"
    assert client.get("/health", headers=key).json()["processes"]["indexer"] == "starting"
