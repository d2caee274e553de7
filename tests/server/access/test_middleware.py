"""Requests that the access middleware refuses or passes on, for every method and path."""

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
    """An application behind the middleware that records the principals of requests."""

    def __init__(self) -> None:
        self.seen: list[Principal] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["user"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"in", "more_body": False})


class MiddlewareClient:
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


def error_of(response: httpx.Response) -> tuple[int, str]:
    error = json.loads(response.content)["error"]
    assert not [name for name in response.headers if name.startswith("access-control-")]
    return response.status_code, error["code"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/", "/v1/models", "/nothing", *sorted(PUBLIC)])
def test_another_host_name_is_refused_on_every_path(method: str, path: str) -> None:
    client = MiddlewareClient("editors")
    assert error_of(client.ask(method, path, host="evil.example:8000")) == (403, "unsupported_host")
    assert error_of(client.ask(method, path, host="evil.example", origin="app://obsidian.md")) == (
        403,
        "unsupported_host",
    )
    assert client.inner.seen == []


def test_two_host_headers_are_refused() -> None:
    client = MiddlewareClient()
    asyncio.run(_two_hosts(client))
    assert client.inner.seen == []


async def _two_hosts(client: MiddlewareClient) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    hosts = [(b"host", b"localhost"), (b"host", b"localhost")]
    await client._app({"type": "http", "method": "GET", "path": "/", "headers": hosts}, None, send)
    assert sent[0]["status"] == 403


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "origin",
    [
        *(PAGE, "http://localhost:8000", "https://evil.example", "null", "file://", "app://obsidian.md", "evil"),
        *("http://127.0.0.1:80001", "http://127.0.0.1:8000.evil.example", "vscode-webview://x"),
    ],
)
def test_a_foreign_page_is_refused_without_cors_headers(method: str, origin: str) -> None:
    client = MiddlewareClient("http://library:3000")
    asked = {"origin": origin, "access_control_request_method": "POST"}
    assert error_of(client.ask(method, "/v1/chat/completions", **asked)) == (403, "foreign_origin")
    assert client.inner.seen == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_cross_site_request_without_origin_is_refused(site: str) -> None:
    client = MiddlewareClient()
    for mode, dest in (("no-cors", "image"), ("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe")):
        headers = {"sec_fetch_site": site, "sec_fetch_mode": mode, "sec_fetch_dest": dest}
        assert error_of(client.ask("GET", "/documents/1", **headers)) == (403, "foreign_origin")
    visit = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert error_of(client.ask("GET", "/v1/models", **visit)) == (403, "foreign_origin")
    assert error_of(client.ask("POST", "/documents/1", **visit)) == (403, "foreign_origin")
    assert client.inner.seen == []


@pytest.mark.parametrize("path", ["/", "/documents/12?chunk=3"])
def test_a_link_from_another_site_to_a_page_works(path: str) -> None:
    client = MiddlewareClient()
    visit = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    response = client.ask("GET", path, **visit)
    assert (response.status_code, response.text) == (200, "in")
    assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "http://127.0.0.1:8000"}, {"origin": ""}, {"sec_fetch_site": "same-origin"}]
)
def test_own_pages_and_other_programs_are_allowed(headers: dict[str, str]) -> None:
    client = MiddlewareClient()
    assert client.ask("POST", "/v1/chat/completions", **headers).text == "in"
    assert client.inner.seen == [UNRESTRICTED]


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
def test_an_allowed_page_may_send_requests_and_read_replies(allowed: str, origin: str) -> None:
    client = MiddlewareClient(allowed)
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,x-stainless-os"}
    preflight = client.ask("OPTIONS", "/v1/chat/completions", origin=origin, **asked)
    assert (preflight.status_code, preflight.content, client.inner.seen) == (204, b"", [])
    assert preflight.headers["access-control-allow-origin"] == origin
    assert preflight.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    reply = client.ask("POST", "/v1/chat/completions", origin=origin, sec_fetch_site="cross-site")
    assert (reply.text, reply.headers["access-control-allow-origin"]) == ("in", origin)
    assert reply.headers["vary"] == "Origin"
    assert "x-request-id" in reply.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in {**preflight.headers, **reply.headers}


def test_a_preflight_needs_no_key_and_allows_private_networks(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.create("ci", Role.READ)
    client = MiddlewareClient("editors", keys=file)
    asked = {"access_control_request_method": "GET", "access_control_request_private_network": "true"}
    headers = client.ask("OPTIONS", "/v1/models", origin="app://x", **asked).headers
    assert headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-headers" not in headers


def test_a_preflight_returns_no_invalid_header_names() -> None:
    asked = {"access_control_request_method": "GET", "access_control_request_headers": "x\x7fy"}
    headers = MiddlewareClient("editors").ask("OPTIONS", "/v1/models", origin="app://x", **asked).headers
    assert "access-control-allow-headers" not in headers


@pytest.mark.parametrize("path", ["/", "/v1/models", "/nothing", "/documents/1", "/V1/health", "/health/x"])
def test_with_keys_every_path_needs_a_valid_key(tmp_path: Path, path: str) -> None:
    file = KeyFile(tmp_path)
    key, text = file.create("ci", Role.READ, ["handbook"])
    client = MiddlewareClient(keys=file)
    for headers in (
        *({}, {"authorization": "Bearer "}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {text}"}),
        *({"authorization": text}, {"x_api_key": text[:-1]}, {"api_key": text + "x"}, {"cookie": f"key={text}"}),
    ):
        response = client.ask("GET", path, **headers)
        assert error_of(response) == (401, "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"
    assert error_of(client.ask("GET", f"{path}?api_key={text}&key={text}")) == (401, "invalid_api_key")
    assert client.inner.seen == []
    for headers in (
        *({"authorization": f"Bearer {text}"}, {"authorization": f"bearer {text}"}, {"x_api_key": text}),
        *({"api_key": text}, {"authorization": "Bearer undefined", "x_api_key": "", "api_key": text}),
    ):
        assert client.ask("GET", path, **headers).text == "in"
    assert client.inner.seen == [Principal("ci", Role.READ, frozenset({"handbook"}), key.id)] * 5


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_health_needs_no_key(tmp_path: Path, path: str) -> None:
    file = KeyFile(tmp_path)
    file.create("ci", Role.READ)
    assert MiddlewareClient(keys=file).ask("GET", path).text == "in"


@pytest.mark.parametrize(("path", "accept"), [("/", "text/html,*/*"), ("/web/app.js", "*/*")])
def test_the_web_page_needs_no_key(tmp_path: Path, path: str, accept: str) -> None:
    file = KeyFile(tmp_path)
    file.create("ci", Role.READ)
    client = MiddlewareClient(keys=file)
    assert client.ask("GET", path, accept=accept).text == "in"
    assert error_of(client.ask("POST", path, accept=accept)) == (401, "invalid_api_key")


def test_without_keys_any_key_is_ignored(tmp_path: Path) -> None:
    client = MiddlewareClient(keys=KeyFile(tmp_path))
    assert client.ask("GET", "/v1/models", authorization="Bearer ", x_api_key="none").text == "in"
    assert client.inner.seen == [UNRESTRICTED]


def test_a_key_over_its_rate_gets_429(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ, rate=2)
    client = MiddlewareClient(keys=file)
    replies = [client.ask("GET", "/v1/models", x_api_key=text) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert error_of(replies[2]) == (429, "rate_limit_exceeded")
    assert 1 <= int(replies[2].headers["retry-after"]) <= 30


def test_unreadable_keys_refuse_every_request(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ)
    file.path.write_text("{")
    client = MiddlewareClient(keys=file)
    assert error_of(client.ask("GET", "/v1/models", x_api_key=text)) == (503, "keys_unreadable")
    assert client.inner.seen == []


def test_is_pattern_accepts_patterns_of_origins() -> None:
    assert all(map(is_pattern, ("editors", "http://localhost:3000", "https://*", "app://*", "http://[::1]:3000")))
    assert not any(map(is_pattern, ("*", "", "localhost", "http://", "http://a/b", "http://*.example", "http://a b")))
