"""Web pages of other servers that may ask this one, and what their browsers are told (CORS, the Fetch standard)."""

import re
from collections.abc import Mapping, Sequence

EDITORS = "editors"
# The webviews of editors and the shells of desktop programs. They run on this machine, installed by its user.
_EDITORS = ("vscode-webview://*", "vscode-file://*", "app://*", "tauri://*", "http://tauri.localhost")
_TOLD = (
    b"x-request-id, openai-processing-ms, openai-poll-after-ms, retry-after, retry-after-ms, x-should-retry"  # to pages
)
_METHODS = b"GET, POST, DELETE, OPTIONS"
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,2000}")  # of headers, as a browser lists them
_PATTERN = re.compile(r"[a-z][a-z0-9+.-]*://(\*|[a-z0-9.\[\]:_-]+)", re.IGNORECASE)
_PREFLIGHT_S = b"600"

Headers = list[tuple[bytes, bytes]]


def is_pattern(text: str) -> bool:
    """Whether `Origins` understands it: `scheme://host[:port]`, `scheme://*`, or `editors`."""
    return text == EDITORS or bool(_PATTERN.fullmatch(text))


class Origins:
    """`allowed`: patterns."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        patterns = [each for name in allowed for each in (_EDITORS if name == EDITORS else (name,))]
        self._schemes = tuple(p[:-1].lower() for p in patterns if p.endswith("://*"))
        self._exact = frozenset(p.lower() for p in patterns if not p.endswith("://*"))

    def allows(self, origin: str) -> bool:
        told = origin.lower()
        return told in self._exact or told.startswith(self._schemes)

    def headers(self, origin: str) -> Headers:
        """For a reply to a page that may read it."""
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _TOLD),
            (b"vary", b"Origin"),
        ]

    def preflight(self, origin: str, asked: Mapping[bytes, bytes]) -> Headers:
        """For the question before the request; `asked` are its headers."""
        names = asked.get(b"access-control-request-headers", b"")
        told = [*self.headers(origin), (b"access-control-allow-methods", _METHODS)]
        told.append((b"access-control-max-age", _PREFLIGHT_S))
        if names and _NAMES.fullmatch(names):
            told.append((b"access-control-allow-headers", names))
        if asked.get(b"access-control-request-private-network") == b"true":
            told.append((b"access-control-allow-private-network", b"true"))
        return told
