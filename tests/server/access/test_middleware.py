"""Whom the server speaks to, before any route: every method, every path."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.access.hosts import Hosts
from server.access.keys import Role
from server.access.middleware import PUBLIC, Access, AccessMiddleware
from server.access.origins import Origins, is_pattern
from server.access.principal import UNRESTRICTED, Principal
from server.storage.local.keys import KeyFile

PAGE = "http://127.0.0.1:3000"
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


class Inner:
    """What stands behind the boundary: keeps who came through."""

    def __init__(self) -> None:
        self.seen: list[Principal] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["user"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"in", "more_body": False})


class Door:
    def __init__(self, *origins: str, keys: KeyFile | None = None) -> None:
        self.inner = Inner()
        access = Access(Hosts("127.0.0.1"), Origins(origins), keys)
        self._app: Any = AccessMiddleware(self.inner, access)  # type: ignore[arg-type]

    def ask(self, method: str = "GET", path: str = "/v1/models", /, **headers: str) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return await client.request(method, path, headers=named)

        return asyncio.run(send())


def refused(response: httpx.Response) -> tuple[int, str]:
    error = json.loads(response.content)["error"]
    assert not [name for name in response.headers if name.startswith("access-control-")]
    return response.status_code, error["code"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/", "/v1/models", "/nothing", *sorted(PUBLIC)])
def test_another_name_is_refused_everywhere(method: str, path: str) -> None:
    door = Door("editors")
    assert refused(door.ask(method, path, host="evil.example:8000")) == (403, "unsupported_host")
    assert refused(door.ask(method, path, host="evil.example", origin="app://obsidian.md")) == (403, "unsupported_host")
    assert door.inner.seen == []


def test_two_names_are_refused() -> None:
    door = Door()
    asyncio.run(_two_hosts(door))
    assert door.inner.seen == []


async def _two_hosts(door: Door) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    hosts = [(b"host", b"localhost"), (b"host", b"localhost")]
    await door._app({"type": "http", "method": "GET", "path": "/", "headers": hosts}, None, send)
    assert sent[0]["status"] == 403


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "origin",
    [
        *(PAGE, "http://localhost:8000", "https://evil.example", "null", "file://", "app://obsidian.md", "evil"),
        *("http://127.0.0.1:80001", "http://127.0.0.1:8000.evil.example", "vscode-webview://x"),
    ],
)
def test_a_foreign_page_is_refused_and_told_nothing(method: str, origin: str) -> None:
    door = Door("http://library:3000")
    asked = {"origin": origin, "access_control_request_method": "POST"}
    assert refused(door.ask(method, "/v1/chat/completions", **asked)) == (403, "foreign_origin")
    assert door.inner.seen == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_that_a_foreign_page_makes_without_saying_so_is_refused(site: str) -> None:
    door = Door()
    for mode, dest in (("no-cors", "image"), ("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe")):
        told = {"sec_fetch_site": site, "sec_fetch_mode": mode, "sec_fetch_dest": dest}
        assert refused(door.ask("GET", "/documents/1", **told)) == (403, "foreign_origin")
    visit = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert refused(door.ask("GET", "/v1/models", **visit)) == (403, "foreign_origin")
    assert refused(door.ask("POST", "/documents/1", **visit)) == (403, "foreign_origin")
    assert door.inner.seen == []


@pytest.mark.parametrize("path", ["/", "/documents/12?chunk=3"])
def test_a_person_may_follow_a_link_to_a_page(path: str) -> None:
    door = Door()
    visit = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    response = door.ask("GET", path, **visit)
    assert (response.status_code, response.text) == (200, "in")
    assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "told", [{}, {"origin": "http://127.0.0.1:8000"}, {"origin": ""}, {"sec_fetch_site": "same-origin"}]
)
def test_own_pages_and_other_programs_come_in(told: dict[str, str]) -> None:
    door = Door()
    assert door.ask("POST", "/v1/chat/completions", **told).text == "in"
    assert door.inner.seen == [UNRESTRICTED]


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("http://127.0.0.1:3000", PAGE),
        ("editors", "vscode-webview://1a2b3c"),
        ("editors", "app://obsidian.md"),
        ("editors", "tauri://localhost"),
        ("https://*", "https://anything.example"),
        ("HTTP://Library:3000", "http://library:3000"),
    ],
)
def test_a_page_that_is_named_may_ask_and_read(allowed: str, origin: str) -> None:
    door = Door(allowed)
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,x-stainless-os"}
    preflight = door.ask("OPTIONS", "/v1/chat/completions", origin=origin, **asked)
    assert (preflight.status_code, preflight.content, door.inner.seen) == (204, b"", [])
    assert preflight.headers["access-control-allow-origin"] == origin
    assert preflight.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    reply = door.ask("POST", "/v1/chat/completions", origin=origin, sec_fetch_site="cross-site")
    assert (reply.text, reply.headers["access-control-allow-origin"]) == ("in", origin)
    assert reply.headers["vary"] == "Origin"
    assert "x-request-id" in reply.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in {**preflight.headers, **reply.headers}


def test_a_preflight_needs_no_key_and_asks_for_private_networks(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.create("ci", Role.READ)
    door = Door("editors", keys=file)
    asked = {"access_control_request_method": "GET", "access_control_request_private_network": "true"}
    told = door.ask("OPTIONS", "/v1/models", origin="app://x", **asked).headers
    assert told["access-control-allow-private-network"] == "true"
    assert "access-control-allow-headers" not in told


def test_header_names_that_are_none_are_not_given_back() -> None:
    asked = {"access_control_request_method": "GET", "access_control_request_headers": "x\x7fy"}
    told = Door("editors").ask("OPTIONS", "/v1/models", origin="app://x", **asked).headers
    assert "access-control-allow-headers" not in told


@pytest.mark.parametrize("path", ["/", "/v1/models", "/nothing", "/documents/1", "/V1/health", "/health/x"])
def test_with_keys_nobody_comes_in_without_one(tmp_path: Path, path: str) -> None:
    file = KeyFile(tmp_path)
    key, text = file.create("ci", Role.READ, ["handbook"])
    door = Door(keys=file)
    for told in (
        *({}, {"authorization": "Bearer "}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {text}"}),
        *({"authorization": text}, {"x_api_key": text[:-1]}, {"api_key": text + "x"}, {"cookie": f"key={text}"}),
    ):
        response = door.ask("GET", path, **told)
        assert refused(response) == (401, "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"
    assert refused(door.ask("GET", f"{path}?api_key={text}&key={text}")) == (401, "invalid_api_key")
    assert door.inner.seen == []
    for told in (
        *({"authorization": f"Bearer {text}"}, {"authorization": f"bearer {text}"}, {"x_api_key": text}),
        *({"api_key": text}, {"authorization": "Bearer undefined", "x_api_key": "", "api_key": text}),
    ):
        assert door.ask("GET", path, **told).text == "in"
    assert door.inner.seen == [Principal("ci", Role.READ, frozenset({"handbook"}), key.id)] * 5


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_health_needs_no_key(tmp_path: Path, path: str) -> None:
    file = KeyFile(tmp_path)
    file.create("ci", Role.READ)
    assert Door(keys=file).ask("GET", path).text == "in"


@pytest.mark.parametrize(("path", "accept"), [("/", "text/html,*/*"), ("/web/app.js", "*/*")])
def test_the_page_that_asks_for_a_key_needs_none(tmp_path: Path, path: str, accept: str) -> None:
    file = KeyFile(tmp_path)
    file.create("ci", Role.READ)
    door = Door(keys=file)
    assert door.ask("GET", path, accept=accept).text == "in"
    assert refused(door.ask("POST", path, accept=accept)) == (401, "invalid_api_key")


def test_without_keys_what_a_client_sends_means_nothing(tmp_path: Path) -> None:
    door = Door(keys=KeyFile(tmp_path))
    assert door.ask("GET", "/v1/models", authorization="Bearer ", x_api_key="none").text == "in"
    assert door.inner.seen == [UNRESTRICTED]


def test_a_key_that_asks_too_often_waits(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ, rate=2)
    door = Door(keys=file)
    replies = [door.ask("GET", "/v1/models", x_api_key=text) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert refused(replies[2]) == (429, "rate_limit_exceeded")
    assert 1 <= int(replies[2].headers["retry-after"]) <= 30


def test_keys_that_cannot_be_read_let_nobody_in(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ)
    file.path.write_text("{")
    door = Door(keys=file)
    assert refused(door.ask("GET", "/v1/models", x_api_key=text)) == (503, "keys_unreadable")
    assert door.inner.seen == []


def test_patterns_of_origins() -> None:
    assert all(map(is_pattern, ("editors", "http://localhost:3000", "https://*", "app://*", "http://[::1]:3000")))
    assert not any(map(is_pattern, ("*", "", "localhost", "http://", "http://a/b", "http://*.example", "http://a b")))
