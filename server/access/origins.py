"""The origins whose web pages may call this server, and the CORS headers for them (the Fetch standard)."""

import re
from collections.abc import Mapping, Sequence

EDITORS = "editors"
# Webviews of editors and of desktop programs, which the user of this machine has installed.
_EDITORS = ("vscode-webview://*", "vscode-file://*", "app://*", "tauri://*", "http://tauri.localhost")
_EXPOSED = b"x-request-id, openai-processing-ms, openai-poll-after-ms, retry-after, retry-after-ms, x-should-retry"
_METHODS = b"GET, POST, DELETE, OPTIONS"
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,2000}")  # as a browser lists them in a preflight request
_PATTERN = re.compile(r"[a-z][a-z0-9+.-]*://(\*|[a-z0-9.\[\]:_-]+)", re.IGNORECASE)
_PREFLIGHT_S = b"600"

Headers = list[tuple[bytes, bytes]]


def is_pattern(text: str) -> bool:
    """Return whether `Origins` understands the text: `scheme://host[:port]`, `scheme://*`, or `editors`."""
    return text == EDITORS or bool(_PATTERN.fullmatch(text))


class Origins:
    """The origins whose pages may use the server. `allowed` are patterns as `is_pattern` describes them."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        patterns = [each for name in allowed for each in (_EDITORS if name == EDITORS else (name,))]
        self._schemes = tuple(p[:-1].lower() for p in patterns if p.endswith("://*"))
        self._exact = frozenset(p.lower() for p in patterns if not p.endswith("://*"))

    def allows(self, origin: str) -> bool:
        name = origin.lower()
        return name in self._exact or name.startswith(self._schemes)

    def headers(self, origin: str) -> Headers:
        """Return the headers of a reply that the page may read."""
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]

    def preflight(self, origin: str, request_headers: Mapping[bytes, bytes]) -> Headers:
        """Return the headers of the reply to a preflight request, which has the headers `request_headers`."""
        names = request_headers.get(b"access-control-request-headers", b"")
        headers = [*self.headers(origin), (b"access-control-allow-methods", _METHODS)]
        headers.append((b"access-control-max-age", _PREFLIGHT_S))
        if names and _HEADER_NAMES.fullmatch(names):
            headers.append((b"access-control-allow-headers", names))
        if request_headers.get(b"access-control-request-private-network") == b"true":
            headers.append((b"access-control-allow-private-network", b"true"))
        return headers
