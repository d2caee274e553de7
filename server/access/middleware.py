"""Refuse requests before the routing: another Host, a foreign web page, a missing key, too many requests.

A web page in the user's browser can send requests to any port of this machine, and can read the replies if its own host
name resolves to this machine (DNS rebinding). So the Host header must name this server, the request must not come from
a foreign page, and it must have an API key if there are keys. Browsers state the origin of a request (Origin,
Sec-Fetch-Site); other clients do not, and need not.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from server.access.hosts import Hosts, host_of
from server.access.keys import Key, KeyStore
from server.access.origins import Origins
from server.access.principal import ANONYMOUS, UNRESTRICTED, Principal, Rates, principal_of
from server.errors import AccessDenied, KeyStoreError
from server.http.problems import problem_of
from server.http.replies import send_problem

PUBLIC = frozenset({"/health", "/v1/health", "/livez", "/readyz"})  # paths that need no key
_PAGES = ("/", "/documents/")  # pages that a link on another site may open; no page may be framed


class Access(NamedTuple):
    """The access rules of the settings. `keys` is None for a server without a store of keys."""

    hosts: Hosts
    origins: Origins = Origins()
    keys: KeyStore | None = None


class AccessMiddleware:
    """Checks each request before the routing, and attaches its `Principal` as `scope["user"]`."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            _check_host(scope, self._access.hosts)
            origin = _foreign_origin(scope, headers, self._access.origins)
            if origin is not None:
                if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                    await _preflight(send, self._access.origins.preflight(origin, headers))
                    return
                send = _with_headers(send, self._access.origins.headers(origin))
            scope["user"] = self._principal(scope, headers)
        except (AccessDenied, KeyStoreError) as error:
            await send_problem(problem_of(error), send)
            return
        await self._app(scope, receive, send)

    def _principal(self, scope: HTTPScope, headers: Mapping[bytes, bytes]) -> Principal:
        """Return the principal of the request. Raises `AccessDenied`, `KeyStoreError`."""
        store = self._access.keys
        if store is None or not store.read():
            return UNRESTRICTED
        key = _key(store, headers)
        if scope["path"] in PUBLIC or _is_page(scope, headers):
            return principal_of(key) if key else ANONYMOUS
        if key is None:
            raise AccessDenied(
                401, "This server needs a valid API key: Authorization: Bearer clst_…", "invalid_api_key"
            )
        if wait_s := self._rates.wait_s(key):
            seconds = math.ceil(wait_s)
            message = f"The key {key.name!r} allows {key.rate} requests per minute; try again in {seconds} s."
            raise AccessDenied(429, message, "rate_limit_exceeded", seconds)
        return principal_of(key)


def _check_host(scope: HTTPScope, hosts: Hosts) -> None:
    """Raise `AccessDenied` unless the Host header names this server."""
    values = [value for name, value in scope["headers"] if name == b"host"]
    if len(values) != 1 or not hosts.knows(values[0].decode("latin-1")):
        name = host_of(values[0].decode("latin-1")) if len(values) == 1 else None
        description = f"the name {name!r}" if name else "this Host header"
        raise AccessDenied(
            403,
            f"This server does not answer to {description}; to allow it, add the name to `hosts` in its settings.",
            "unsupported_host",
        )


def _foreign_origin(scope: HTTPScope, headers: Mapping[bytes, bytes], origins: Origins) -> str | None:
    """Return the origin of a foreign page that is allowed; None for any other request.

    Raises `AccessDenied` for a page that is not allowed.
    """
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin:
        if origins.allows(origin):
            return origin
        if origin.lower() not in _own_origins(headers):
            raise AccessDenied(
                403,
                f"Pages of {origin[:200]!r} may not use this server; to allow them, add it to `origins`.",
                "foreign_origin",
            )
    elif headers.get(b"sec-fetch-site", b"") in (b"cross-site", b"same-site") and not _is_visit(scope, headers):
        raise AccessDenied(
            403,
            "Pages of other sites may not use this server; to allow one, add it to `origins`.",
            "foreign_origin",
        )
    return None


def _key(store: KeyStore, headers: Mapping[bytes, bytes]) -> Key | None:
    """Return the valid key of the request, from any of three headers. A key in the URL is ignored: URLs are logged."""
    scheme, _, bearer = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    texts = [bearer.strip()] if scheme.lower() == "bearer" else []
    texts += [headers.get(name, b"").decode("latin-1").strip() for name in (b"x-api-key", b"api-key")]
    keys = [store.find(text) for text in texts if text]
    return next((key for key in keys if key is not None), None)


def _own_origins(headers: Mapping[bytes, bytes]) -> tuple[str, str]:
    """Return the origins of the server's own pages. The caller has checked the Host header."""
    host = headers[b"host"].decode("latin-1").lower()
    return f"http://{host}", f"https://{host}"


def _is_visit(scope: HTTPScope, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a person follows a link to a page of this server. The linking page cannot read the reply."""
    is_page = scope["path"] == _PAGES[0] or scope["path"].startswith(_PAGES[1])
    is_navigation = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
    return scope["method"] == "GET" and is_page and is_navigation


def _is_page(scope: HTTPScope, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a browser loads the page that asks for a key. Its files hold no data."""
    is_start = scope["path"] == "/" and b"text/html" in headers.get(b"accept", b"")
    return scope["method"] in ("GET", "HEAD") and (is_start or scope["path"].startswith("/web/"))


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return send_with_headers


async def _preflight(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
