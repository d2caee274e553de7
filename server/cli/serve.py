"""`cloister serve`: watch folders, and answer over HTTP until told to stop."""

import argparse
import asyncio
import contextlib
import errno
import logging
import re
import signal
import socket
import time
from collections.abc import Callable, Generator

import uvicorn

from models.core_dumps import disable_core_dumps
from models.logs import LogConfig, configure_logging
from server.access.hosts import Hosts, is_open
from server.access.middleware import Access
from server.access.origins import Origins
from server.app import create_app
from server.cli.errors import StartError
from server.cli.flags import add_serving, address_of, serving_settings
from server.composition import open_server
from server.errors import KeyStoreError, SettingsError
from server.http.transport import MAX_CONNECTIONS, Connection
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.observability.tracing import open_tracing
from server.resources.reloading import FolderReloader
from server.services import Services
from server.settings.settings import MANUAL, Settings
from server.storage.local.audit import AuditFolder
from server.storage.local.keys import KeyFile

_GRACE_S = 5  # for answers that are being streamed when the server is told to stop
_FIRST_INDEX_S = 15.0  # how long the start waits for the folders to be indexed before it says the rest goes on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_serving(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    disable_core_dumps()

    settings = serving_settings(options)
    configure_logging(LogConfig(settings.log_level, settings.log_format))
    return _run(settings, lambda: serving_settings(options))


def _run(settings: Settings, reread: Callable[[], Settings]) -> int:
    keys = KeyFile(settings.data_folder)
    _check_keys(settings, keys)
    _say(f"Cloister: model {settings.model}, data in {settings.data_folder}")
    audit = AuditLog(AuditFolder(settings.data_folder), settings.audit)
    with _listen(settings.host, settings.port) as listener, audit:
        host, port = listener.getsockname()[:2]
        loop_factory = None
        with contextlib.suppress(ImportError):
            import uvloop

            loop_factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_serve(settings, reread, listener, address_of(host, port), audit))
    return 0


def _check_keys(settings: Settings, keys: KeyFile) -> None:
    """Other machines are let in by a key, or not at all."""
    try:
        is_locked = bool(keys.read())
    except KeyStoreError as error:
        raise StartError(str(error)) from None
    if is_open(settings.host) and not is_locked:
        raise StartError(
            f"listening on {settings.host} lets other machines in, and there is no key yet; make one first:"
            " cloister keys create --name NAME"
        )


def _listen(host: str, port: int) -> socket.socket:
    """Binds before anything is loaded, so that a taken port is said at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][0]
    except socket.gaierror:
        if host != "localhost":
            raise SettingsError("host", f"{host!r} is not an IP address of this machine, nor localhost") from None
        host, family = "127.0.0.1", socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} is in use; stop what uses it, or choose another: --port {port + 1}"
            ) from None
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from None


class _Server(uvicorn.Server):
    """uvicorn, stopped by SIGINT and SIGTERM with exit status 0; a second signal does not wait for streams."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        yield

    def stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


async def _serve(
    settings: Settings, reread: Callable[[], Settings], listener: socket.socket, address: str, audit: AuditLog
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics(stack.enter_context(open_tracing(settings.tracing)))
        services, folders = await stack.enter_async_context(open_server(settings, metrics, _say_conversion))
        reloading = FolderReloader(reread, folders.follow, _say)
        await stack.enter_async_context(reloading.reload_on_hangup())
        config = uvicorn.Config(
            create_app(lambda: contextlib.nullcontext(services), access_of(settings), metrics, audit, reloading.reload),
            http=Connection,
            limit_concurrency=MAX_CONNECTIONS,
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        announcing = asyncio.create_task(_announce(services, address), name="announce")
        try:
            await asyncio.wait({serving, announcing}, return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                announcing.result()  # raises what prevented the start
            await serving
        finally:
            announcing.cancel()
            server.stop()
            await asyncio.gather(serving, announcing, return_exceptions=True)
    _say("Stopped.")


def access_of(settings: Settings) -> Access:
    return Access(Hosts(settings.host, settings.hosts), Origins(settings.origins), KeyFile(settings.data_folder))


async def _announce(services: Services, address: str) -> None:
    """Says what is being waited for, then how to ask. Raises when a process cannot be started at all."""
    if is_open(services.settings.host):
        _say(f"Listening on {services.settings.host}, unencrypted: who has a key may ask, who can listen in may read.")
    _say(f"Loading {services.pool.default.name} and {services.settings.embedder} …")
    await asyncio.gather(services.pool.default.wait_until_loaded(), services.encoder.first(), services.indexer.first())
    folders = ", ".join(f"{c.name} ({c.root})" for c in services.collections) or "no folder; name one with --docs DIR"
    _say(f"Indexing {folders} …")
    deadline = time.monotonic() + _FIRST_INDEX_S
    while not (is_indexed := await _is_indexed(services)) and time.monotonic() < deadline:
        if services.indexer_control.progress.activity == "paused":
            break
        await asyncio.sleep(0.2)
    _say(
        _READY.format(
            address=address, json=_JSON, question=await _question(services), index=await _summary(services, is_indexed)
        )
    )


_QUOTES = re.compile(r"[\"'\\\x00-\x1f\x7f-\x9f]")
_JSON = "-H 'Content-Type: application/json'"
_READY = """
Ready:  {address}/v1 – an OpenAI API; the model is "cloister"
Page:   {address}/ – to ask in a browser
Ask:    curl {address}/v1/chat/completions {json} -d '{{"messages": [{{"role": "user", "content": "{question}"}}]}}'
Index:  {index} – {address}/v1/index/status"""


async def _is_indexed(services: Services) -> bool:
    states = await asyncio.to_thread(services.catalog.status)
    return len(states) == len(services.collections) and all(s.scanned_at and not s.pending for s in states)


async def _question(services: Services) -> str:
    """One that can be pasted between a shell's and JSON's quotes, and answered."""
    if [c.root for c in services.collections] == [MANUAL.resolve()]:
        return "How do I watch my own folder?"
    topic = await asyncio.to_thread(services.catalog.topic)
    return f"What about {_QUOTES.sub('', topic or 'it')}?"


async def _summary(services: Services, is_indexed: bool) -> str:
    states = await asyncio.to_thread(services.catalog.status)
    documents, pending = sum(s.documents for s in states), sum(s.pending for s in states)
    failed = sum(len(s.failed) for s in states)
    parts = [f"{documents} document{'s' * (documents != 1)} indexed"]
    if not is_indexed:
        parts.append(f"{pending} queued")
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join(parts)


def _say_conversion(model: str) -> None:
    _say(f"Converting {model} for this machine: about 15 seconds, this once …")


def _say(line: str) -> None:
    print(line, flush=True)
