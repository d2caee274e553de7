"""The page that people ask in: its files, read once, and what a browser may do with them."""

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
        """A browser keeps the file, and asks each time whether it is still the same."""
        return {**_HEADERS, "Content-Type": self.media_type, "ETag": self.tag}

    def is_kept(self, if_none_match: str) -> bool:
        """Whether a browser that says this has it: it names the tag among others, weak or not, or any (RFC 9110)."""
        return if_none_match.strip() == "*" or self.tag in _TAGS.findall(if_none_match)


@cache
def web_files() -> dict[str, WebFile]:
    """By their paths under `/web/`. What is not among them is not served, whatever an address says."""
    return dict(_read(files("server.page") / "web", ""))


def _read(folder: Traversable, prefix: str) -> list[tuple[str, WebFile]]:
    found: list[tuple[str, WebFile]] = []
    for entry in folder.iterdir():
        media_type = _TYPES.get("." + entry.name.rpartition(".")[2])
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
        elif media_type:
            content = entry.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found.append((prefix + entry.name, WebFile(content, media_type, tag)))
    return found
