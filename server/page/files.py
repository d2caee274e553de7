"""The files of the web page, read once, with headers that say what a browser may do with them."""

import hashlib
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
START = "index.html"
_TAGS = re.compile(r'(?:W/)?("[^"]*")')


class WebFile(NamedTuple):
    content: bytes
    media_type: str
    tag: str

    @property
    def headers(self) -> dict[str, str]:
        """The response headers. A browser caches the file, and revalidates it at each use."""
        return {**_HEADERS, "Content-Type": self.media_type, "ETag": self.tag}

    def matches(self, if_none_match: str) -> bool:
        """Return whether an If-None-Match header names this file's tag, weak or strong, or any (RFC 9110, 13.1.2)."""
        return if_none_match.strip() == "*" or self.tag in _TAGS.findall(if_none_match)


@cache
def web_files() -> dict[str, WebFile]:
    """Return all files by their paths under `/web/`. Nothing else is served."""
    return dict(_read(files("server.page") / "web", ""))


def _read(folder: Traversable, prefix: str) -> list[tuple[str, WebFile]]:
    entries: list[tuple[str, WebFile]] = []
    for entry in folder.iterdir():
        media_type = _TYPES.get("." + entry.name.rpartition(".")[2])
        if entry.is_dir():
            entries += _read(entry, f"{prefix}{entry.name}/")
        elif media_type:
            content = entry.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            entries.append((prefix + entry.name, WebFile(content, media_type, tag)))
    return entries
