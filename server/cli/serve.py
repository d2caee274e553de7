"""`cloister serve`: watch folders and answer over HTTP until a signal stops it."""

import argparse
import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

from models.core_dumps import disable_core_dumps
from models.logs import LogConfig, configure_logging
from server.access.hosts import Hosts, is_open
from server.access.middleware import Access
from server.access.origins import Origins
from server.app import create_app
from server.cli.announcement import announce, print_line
from server.cli.errors import StartError
from server.cli.flags import add_serving, address_of, serving_settings
from server.composition import open_server
from server.errors import KeyStoreError, SettingsError
from server.http.transport import MAX_CONNECTIONS, Connection
from server.observability.audit import AuditLog
from server.observability.metrics import Metrics
from server.observability.tracing import open_tracing
from server.resources.reloading import FolderReloader
from server.settings.settings import Settings
from server.storage.local.audit import AuditFolder
from server.storage.local.keys import KeyFile

_GRACE_S = 5  # for answers that are being streamed when the server stops


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_serving(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    disable_core_dumps()
    settings = serving_settings(options)
    configure_logging(LogConfig(settings.log_level, settings.log_format))
    _check_keys(settings)
    print_line(f"Cloister: model {settings.model}, data in {settings.data_folder}")
    audit = AuditLog(AuditFolder(settings.data_folder), settings.audit)
    with _listen(settings.host, settings.port) as listener, audit:
        host, port = listener.getsockname()[:2]
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, lambda: serving_settings(options), listener, address_of(host, port), audit))
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _check_keys(settings: Settings) -> None:
    """Raise `StartError` if other machines can connect and there is no key, or if the keys cannot be read."""
    try:
        has_keys = bool(KeyFile(settings.data_folder).read())
    except KeyStoreError as error:
        raise StartError(str(error)) from None
    if is_open(settings.host) and not has_keys:
        raise StartError(
            f"listening on {settings.host} lets other machines in, and there is no key yet; create one first:"
            " cloister keys create --name NAME"
        )


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. It is opened before anything is loaded, so that a port in use is reported at once."""
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
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}; choose another: --host, --port") from None


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
    """Serve until a signal comes. Raises the error of a process that cannot be started at all."""
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics(stack.enter_context(open_tracing(settings.tracing)))
        services, folders = await stack.enter_async_context(open_server(settings, metrics, _report_conversion))
        reloader = FolderReloader(reread, folders.follow, print_line)
        await stack.enter_async_context(reloader.reload_on_hangup())
        app = create_app(lambda: contextlib.nullcontext(services), access_of(settings), metrics, audit, reloader.reload)
        server = _Server(_uvicorn_config(app))
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        announcing = asyncio.create_task(announce(services, address), name="announce")
        try:
            await asyncio.wait({serving, announcing}, return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                announcing.result()
            await serving
        finally:
            announcing.cancel()
            server.stop()
            await asyncio.gather(serving, announcing, return_exceptions=True)
    print_line("Stopped.")


def _uvicorn_config(app: Callable[..., Any]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        limit_concurrency=MAX_CONNECTIONS,
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=_GRACE_S,
    )


def access_of(settings: Settings) -> Access:
    """Return the access rules of the settings."""
    return Access(Hosts(settings.host, settings.hosts), Origins(settings.origins), KeyFile(settings.data_folder))


def _report_conversion(model: str) -> None:
    print_line(f"Converting {model} for this machine: about 15 seconds, once …")
