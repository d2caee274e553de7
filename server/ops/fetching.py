"""Download a model's file, for `cloister models pull`. The server never uses this.

Before a file is kept, its SHA-256 is compared with that of the catalog, the caller or the host. An interrupted transfer
continues where it stopped.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx2

from models.folder import IncomingModel

_TIMEOUT_S = 30.0  # without a byte
_PIECE_BYTES = 1 << 20
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
_HASH_HEADERS = ("x-linked-etag", "x-checksum-sha256", "etag")  # hosts of large files state the SHA-256 in one of these
_REFUSALS = {401: "the host requires a sign-in", 403: "the host refuses access", 404: "there is no such file"}


class FetchError(Exception):
    """The message is one line for the user."""


class Offer(NamedTuple):
    """A file to download: its URL, size in bytes and SHA-256, as far as the host says."""

    url: str
    size: int | None
    sha256: str | None


class Host:
    """A client of hosts that serve files over HTTP. A context manager."""

    def __init__(self) -> None:
        self._http = httpx2.Client(timeout=_TIMEOUT_S, follow_redirects=False)

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def offer(self, url: str) -> Offer:
        """Return what the host says of the file. Raises `FetchError`.

        Redirects are followed here, since the first host states the hash and the last one has the file.
        """
        sha256, size = None, None
        for _ in range(_MAX_REDIRECTS + 1):
            with _fetch_errors(url):
                reply = self._http.head(url, headers={"Accept-Encoding": "identity"})
            sha256 = sha256 or _hash_header(reply.headers)
            size = size or _number(reply.headers.get("x-linked-size"))
            if reply.status_code not in _REDIRECTS:
                break
            target = reply.url.join(reply.headers.get("location", ""))
            if reply.url.scheme == "https" and target.scheme != "https":
                raise FetchError(f"{url} redirects to an unencrypted URL at {target.host}; name another URL")
            url = str(target)
        if reply.status_code != 200:
            raise FetchError(_refusal(url, reply.status_code))
        return Offer(url, size or _number(reply.headers.get("content-length")), sha256)

    def pieces(self, offer: Offer, incoming: IncomingModel) -> Iterator[bytes]:
        """Yield the bytes that are missing, or all of them when the host cannot resume. Raises `FetchError`."""
        headers = {"Accept-Encoding": "identity"}
        if incoming.size:
            headers["Range"] = f"bytes={incoming.size}-"
        with _fetch_errors(offer.url), self._http.stream("GET", offer.url, headers=headers) as reply:
            if reply.status_code == 200:
                incoming.restart()
            elif reply.status_code != 206:
                raise FetchError(_refusal(offer.url, reply.status_code))
            yield from reply.iter_bytes(_PIECE_BYTES)


@contextmanager
def _fetch_errors(url: str) -> Iterator[None]:
    """Raise errors of the HTTP client as `FetchError`."""
    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise FetchError(f"{url} is not the URL of a file: {error}") from None
    except httpx2.TimeoutException:
        raise FetchError(f"{url}: nothing came for {_TIMEOUT_S:g} s; run the same command again to continue") from None
    except httpx2.HTTPError as error:
        raise FetchError(f"{url}: {error or type(error).__name__}; run the same command again to continue") from None


def _hash_header(headers: httpx2.Headers) -> str | None:
    matches = (_SHA256.fullmatch(headers.get(name, "")) for name in _HASH_HEADERS)
    return next((match[1] for match in matches if match), None)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _refusal(url: str, status: int) -> str:
    return f"{url}: {_REFUSALS.get(status, 'the host refused the request')} ({status})"
