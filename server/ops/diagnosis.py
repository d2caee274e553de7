"""Run the checks of an installation, for `cloister doctor`. They change nothing and use no network."""

import errno
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from models.catalog import resolve_embedding, resolve_reranker
from models.errors import ModelError
from models.llm.llama.probe import probe
from models.memory import format_bytes, total_memory
from models.offline import OFFLINE
from server.errors import SettingsError
from server.ops.data_checks import data_folder, index, keys
from server.ops.finding import Finding
from server.ops.package_checks import licences, packages, pages, telemetry
from server.resources.chat_models import resolve_chat_models
from server.settings.settings import Settings

_MIN_MEMORY_BYTES = 2_000_000_000  # for the built-in models and a small index
_MAX_MODEL_SHARE = 0.8  # of the machine's memory
_MIN_WATCHES = 65_536
_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")

Check = Callable[[Settings], Iterator[Finding]]


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield the findings of all checks."""
    for check in _CHECKS:
        yield from check(settings)


def _python(settings: Settings) -> Iterator[Finding]:
    found = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info >= (3, 11) and platform.system() in ("Linux", "Darwin"):
        yield Finding("ok", "python", found, "python3 --version; uname -sm")
    else:
        advice = "use Python 3.11 or newer on Linux or macOS; on Windows, WSL or the container"
        yield Finding("failure", "python", found, "python3 --version", advice)


def _machine(settings: Settings) -> Iterator[Finding]:
    memory = total_memory()
    found = f"{os.cpu_count() or 1} cores, {format_bytes(memory)} of memory"
    if memory >= _MIN_MEMORY_BYTES:
        yield Finding("ok", "machine", found, "nproc; free -h")
    else:
        advice = f"the built-in models need {format_bytes(_MIN_MEMORY_BYTES)}; use a machine with more memory"
        yield Finding("warning", "machine", found, "free -h", advice)


def _folders(settings: Settings) -> Iterator[Finding]:
    try:
        collections = settings.collections()
    except SettingsError as error:
        yield Finding("failure", "documents", str(error), "ls -ld DIR", "name another folder: --docs DIR")
        return
    for collection in collections:
        name, root = f"documents {collection.name}", collection.root
        if os.access(root, os.R_OK | os.X_OK):
            yield Finding("ok", name, str(root), f"ls -ld {root}")
        else:
            yield Finding("failure", name, f"{root} cannot be read", f"ls -ld {root}", "let Cloister's user read it")


def _file_events(settings: Settings) -> Iterator[Finding]:
    if not _WATCHES.exists():  # not Linux
        return
    limit = int(_WATCHES.read_text())
    found = f"{limit} folders can be watched"
    if limit >= _MIN_WATCHES:
        yield Finding("ok", "file events", found, f"cat {_WATCHES}")
    else:
        advice = (
            f"further folders are scanned; to raise the limit: sudo sysctl fs.inotify.max_user_watches={_MIN_WATCHES}"
        )
        yield Finding("warning", "file events", found, f"cat {_WATCHES}", advice)


def _chat_models(settings: Settings) -> Iterator[Finding]:
    command = "cloister models list"
    try:
        models = resolve_chat_models(settings)
    except (ModelError, SettingsError) as error:
        yield Finding("failure", f"model {settings.model}", str(error), command)
        return
    for resolved, _ in models.configured:
        yield _chat_model(f"model {resolved.name}", resolved.path)
    for name, reason in models.missing.items():
        yield Finding("warning", f"model {name}", str(reason), command)


def _chat_model(name: str, path: Path) -> Finding:
    try:
        info = probe(path)
    except ModelError as error:
        return Finding("failure", name, str(error), "cloister models list")
    memory = format_bytes(info.memory)
    found = f"{info.quantization}, {format_bytes(info.file_size)}, needs about {memory} of memory"
    if info.memory > _MAX_MODEL_SHARE * total_memory():
        return Finding("failure", name, found, "free -h", "this machine has too little memory; use a smaller model")
    return Finding("ok", name, found, f"cloister models show {path}")


def _encoder_models(settings: Settings) -> Iterator[Finding]:
    try:
        yield Finding("ok", "embedder", str(resolve_embedding(settings.embedder).path))
        if settings.reranker:
            yield Finding("ok", "reranker", str(resolve_reranker(settings.reranker).path))
    except ModelError as error:
        yield Finding("failure", "embedder and reranker", str(error), advice="set them to folders that exist")


def _address(settings: Settings) -> Iterator[Finding]:
    address, command = f"{settings.host}:{settings.port}", f"ss -ltn | grep {settings.port}"
    try:
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((settings.host, settings.port))
        yield Finding("ok", "address", f"{address} is free", command)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "if that is not a running Cloister, choose another port: cloister serve --port N"
            yield Finding("warning", "address", f"{address} is in use", command, advice)
        else:
            found = f"{address}: {error.strerror or error}"
            yield Finding("failure", "address", found, command, "set host to an address of this machine")


def _offline(settings: Settings) -> Iterator[Finding]:
    flags = " ".join(f"{name}={value}" for name, value in OFFLINE.items())
    yield Finding("ok", "no lazy downloads", f"every model process gets {flags}", "tr '\\0' '\\n' < /proc/PID/environ")


_CHECKS: Final[tuple[Check, ...]] = (
    _python,
    packages,
    _machine,
    data_folder,
    _folders,
    _file_events,
    _chat_models,
    _encoder_models,
    _address,
    keys,
    index,
    telemetry,
    pages,
    _offline,
    licences,
)
