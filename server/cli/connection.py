"""The HTTP client of commands that use a running server. Every failed request is one line for the user."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from server.cli.errors import StartError
from server.cli.flags import add_settings, address_of, settings_of

_CONNECT_S = 5.0
_REPLY_S = 600.0  # a large model on a small machine reads a long prompt for minutes


def add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", metavar="URL", help="URL of the server (default: host and port of the settings)")
    parser.add_argument("--key-file", metavar="FILE", type=Path, help="file with an API key, if the server has keys")
    add_settings(parser)


def url_and_key(options: argparse.Namespace) -> tuple[str, str | None]:
    """Return the server's URL and the key to send. Raises `StartError`, `SettingsError`."""
    settings = settings_of(options)
    url: str = options.url or address_of(settings.host, settings.port)
    try:
        key = options.key_file.read_text().strip() if options.key_file else None
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"the key file {options.key_file} cannot be read: {error}; name another: --key-file FILE"
        ) from None
    return url.rstrip("/"), key


class ServerUnreachable(StartError):
    """No server runs at the URL."""


@contextlib.contextmanager
def open_client(options: argparse.Namespace) -> Iterator[httpx2.Client]:
    """Yield a client of the server. Raises `StartError`, which says what to do, for every request that fails inside."""
    url, key = url_and_key(options)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx2.Timeout(_REPLY_S, connect=_CONNECT_S)
    try:
        with httpx2.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False) as client:
            yield client
    except (httpx2.ConnectError, httpx2.ConnectTimeout):
        raise ServerUnreachable(
            f"no server answers at {url}; start the server: cloister serve, or name its URL: --url URL"
        ) from None
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        raise StartError(f"{url} is not a URL; use one like http://127.0.0.1:8000") from None
    except UnicodeEncodeError:
        raise StartError("the arguments are no UTF-8 text; set the terminal to UTF-8") from None
    except httpx2.HTTPError as error:
        raise StartError(f"{url}: {error or type(error).__name__}") from None
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise StartError(
            f"{url} is not a Cloister server, or has another version ({error}); name another URL: --url URL"
        ) from None


def check_reply(reply: httpx2.Response) -> httpx2.Response:
    """Return the reply. Raises `StartError` with the server's message unless it is a success."""
    if reply.is_success:
        return reply
    if reply.status_code == 401:
        raise StartError("the server requires a key: --key-file FILE; create one: cloister keys create --name NAME")
    try:
        message: Any = msgspec.json.decode(reply.read())["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        message = f"the server answered {reply.status_code}"
    raise StartError(str(message))
