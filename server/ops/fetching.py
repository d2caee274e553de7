"""Getting a model's file from elsewhere, for `cloister models pull`: the one thing of Cloister that uses a network.

The server never does; this runs where somebody says so. The file is compared with the SHA-256 that the catalog, the
caller or the host tells before it is kept, and a transfer that was cut off goes on where it was.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx2

from models.folder import IncomingModel

_TIMEOUT_S = 30.0  # without a byte
_PIECE = 1 << 20
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
# Hosts of large files tell their content's hash by these.
_HASHES = ("x-linked-etag", "x-checksum-sha256", "etag")


class FetchError(Exception):
    """One line for the user."""


class Offer(NamedTuple):
    """A file to download: its URL, size in bytes and SHA-256, as far as the host says."""

    url: str
    size: int | None
    sha256: str | None


class Host:
    """A place that serves files over HTTP. A context manager."""

    def __init__(self) -> None:
        self._http = httpx2.Client(timeout=_TIMEOUT_S, follow_redirects=False)

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def offer(self, url: str) -> Offer:
        """Follows redirections by hand: a hash is told by the first host, the file comes from the last."""
        sha256, size = None, None
        for _ in range(6):
            with _fetch_errors(url):
                reply = self._http.head(url, headers={"Accept-Encoding": "identity"})
            sha256 = sha256 or _hash_header(reply.headers)
            size = size or _number(reply.headers.get("x-linked-size"))
            if reply.status_code not in (301, 302, 303, 307, 308):
                break
            target = reply.url.join(reply.headers.get("location", ""))
            if reply.url.scheme == "https" and target.scheme != "https":
                raise FetchError(f"{url} leads to an unencrypted address, {target.host}")
            url = str(target)
        if reply.status_code != 200:
            raise FetchError(_refusal(url, reply.status_code))
        return Offer(url, size or _number(reply.headers.get("content-length")), sha256)

    def pieces(self, offer: Offer, incoming: IncomingModel) -> Iterator[bytes]:
        """Yield the bytes that are missing, or all of them when the host cannot resume."""
        headers = {"Accept-Encoding": "identity"}
        if incoming.size:
            headers["Range"] = f"bytes={incoming.size}-"
        with _fetch_errors(offer.url), self._http.stream("GET", offer.url, headers=headers) as reply:
            if reply.status_code == 200:
                incoming.restart()
            elif reply.status_code != 206:
                raise FetchError(_refusal(offer.url, reply.status_code))
            yield from reply.iter_bytes(_PIECE)


@contextmanager
def _fetch_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise FetchError(f"{url} is no address of a file: {error}") from None
    except httpx2.TimeoutException:
        raise FetchError(f"{url}: nothing came for {_TIMEOUT_S:g} s; run the same command again to go on") from None
    except httpx2.HTTPError as error:
        raise FetchError(f"{url}: {error or type(error).__name__}; run the same command again to go on") from None


def _hash_header(headers: httpx2.Headers) -> str | None:
    found = (_SHA256.fullmatch(headers.get(name, "")) for name in _HASHES)
    return next((each[1] for each in found if each), None)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _refusal(url: str, status: int) -> str:
    why = {401: "it wants a sign-in", 403: "it may not be had from here", 404: "there is no such file"}
    return f"{url}: {why.get(status, 'the host answered')} ({status})"
