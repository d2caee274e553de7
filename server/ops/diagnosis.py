"""Checks of an installation, one by one, for `cloister doctor`.

Each finding says what was found, what to do about it, and the command that shows it without this program. Nothing here
changes anything, and nothing uses a network.
"""

import errno
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from index.errors import IndexingError
from index.ingest.watcher import has_events
from index.storage.sqlite.catalog import SqliteCatalog
from index.storage.sqlite.database import FILE, check_integrity, exists
from models.catalog import resolve_embedding, resolve_reranker
from models.errors import ModelError
from models.llm.llama.probe import probe
from models.memory import format_bytes, total_memory
from models.offline import OFFLINE
from server.access.hosts import is_open
from server.errors import KeyStoreError, SettingsError
from server.resources.chat_models import resolve_chat_models
from server.settings.settings import Settings
from server.storage.local.keys import KEYS_FILE, KeyFile

_ROOT = Path(__file__).parents[2]
_PINS = _ROOT / "requirements" / "runtime.txt"
_LEAST_MEMORY = 2_000_000_000  # bytes: the built-in models and a small index
_LEAST_FREE = 2_000_000_000  # bytes on the disk of the data folder
_LEAST_WATCHES = 65_536
_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")
# What sends figures about its users somewhere, or is made for that.
_TELEMETRY = ("analytics-python", "datadog", "ddtrace", "mixpanel", "newrelic", "opentelemetry-exporter", "posthog")
_PAGES = frozenset({".html", ".js", ".css", ".svg"})
_FOREIGN = (b"//cdn.", b"//unpkg.com", b"fonts.googleapis", b"fonts.gstatic")


class Finding(msgspec.Struct, frozen=True):
    """A warning works, but not as well as it could; a failure does not work, or not safely."""

    state: Literal["ok", "warning", "failure"]
    name: str
    found: str
    shown_by: str = ""
    advice: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def findings(settings: Settings) -> Iterator[Finding]:
    for check in _CHECKS:
        yield from check(settings)


def _python(settings: Settings) -> Iterator[Finding]:
    found = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info >= (3, 11) and platform.system() in ("Linux", "Darwin"):
        yield Finding("ok", "python", found, "python3 --version; uname -sm")
    else:
        advice = "take Python 3.11 or newer on Linux or macOS; on Windows, WSL or the container"
        yield Finding("failure", "python", found, "python3 --version", advice)


def packages(settings: Settings) -> Iterator[Finding]:
    shown_by = f"{sys.executable} -m pip freeze"
    others = [f"{name} {there} for {wanted}" for name, wanted in pins() if (there := _version(name)) != wanted]
    if others:
        yield Finding("warning", "packages", "; ".join(others[:5]), shown_by, "scripts/bootstrap runtime installs them")
    elif _PINS.is_file():
        yield Finding("ok", "packages", "all as pinned", shown_by)
    else:
        yield Finding("warning", "packages", f"{_PINS} is not here to compare them with", shown_by)


def _machine(settings: Settings) -> Iterator[Finding]:
    memory = total_memory()
    found = f"{os.cpu_count() or 1} cores, {format_bytes(memory)} of memory"
    if memory >= _LEAST_MEMORY:
        yield Finding("ok", "machine", found, "nproc; free -h")
    else:
        yield Finding(
            "warning", "machine", found, "free -h", f"{format_bytes(_LEAST_MEMORY)} are needed for the built-in models"
        )


def _data(settings: Settings) -> Iterator[Finding]:
    name, folder = "data folder", settings.data_folder
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    shown_by = f"df -hT {nearest}; ls -ld {nearest}"
    free = shutil.disk_usage(nearest).free
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("failure", name, f"{folder} cannot be written to", shown_by, "name another: --data DIR")
    elif not has_events(nearest):
        advice = "SQLite is not safe there; name a folder on a disk of this machine: --data DIR"
        yield Finding("failure", name, f"{folder} is on a network drive", shown_by, advice)
    elif exists(folder) and (folder / FILE).stat().st_mode & 0o077 and folder.stat().st_mode & 0o055:
        advice = f"it has the text of your documents: chmod -R go= {folder}"
        yield Finding("warning", name, f"other users of this machine can read {folder}", f"ls -l {folder}", advice)
    elif free < _LEAST_FREE:
        advice = "make room: the index grows with your documents"
        yield Finding("warning", name, f"{folder}, {format_bytes(free)} free", shown_by, advice)
    else:
        yield Finding("ok", name, f"{folder}, {format_bytes(free)} free", shown_by)


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


def _watches(settings: Settings) -> Iterator[Finding]:
    if not _WATCHES.exists():  # not Linux
        return
    number = int(_WATCHES.read_text())
    found = f"{number} folders can be watched"
    if number >= _LEAST_WATCHES:
        yield Finding("ok", "file events", found, f"cat {_WATCHES}")
    else:
        advice = f"more are scanned instead; or: sudo sysctl fs.inotify.max_user_watches={_LEAST_WATCHES}"
        yield Finding("warning", "file events", found, f"cat {_WATCHES}", advice)


def _chat(settings: Settings) -> Iterator[Finding]:
    shown_by = "cloister models list"
    try:
        chat = resolve_chat_models(settings)
    except (ModelError, SettingsError) as error:
        yield Finding("failure", f"model {settings.model}", str(error), shown_by)
        return
    for resolved, _ in chat.configured:
        name = f"model {resolved.name}"
        try:
            card = probe(resolved.path)
        except ModelError as error:
            yield Finding("failure", name, str(error), shown_by)
            continue
        found = f"{card.quantization}, {format_bytes(card.file_size)}, takes about {format_bytes(card.memory)}"
        if card.memory > 0.8 * total_memory():
            yield Finding("failure", name, found, "free -h", "there is not so much memory here; take a smaller model")
        else:
            yield Finding("ok", name, found, f"cloister models show {resolved.path}")
    for name, reason in chat.missing.items():
        yield Finding("warning", f"model {name}", str(reason), shown_by)


def _others(settings: Settings) -> Iterator[Finding]:
    try:
        yield Finding("ok", "embedder", str(resolve_embedding(settings.embedder).path))
        if settings.reranker:
            yield Finding("ok", "reranker", str(resolve_reranker(settings.reranker).path))
    except ModelError as error:
        yield Finding("failure", "embedder and reranker", str(error), advice="set them to folders that are there")


def _address(settings: Settings) -> Iterator[Finding]:
    where, shown_by = f"{settings.host}:{settings.port}", f"ss -ltn | grep {settings.port}"
    try:
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probing:
            probing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probing.bind((settings.host, settings.port))
        yield Finding("ok", "address", f"{where} is free", shown_by)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "that is a Cloister which runs already, or choose another: cloister serve --port N"
            yield Finding("warning", "address", f"{where} is in use", shown_by, advice)
        else:
            found = f"{where}: {error.strerror or error}"
            yield Finding("failure", "address", found, shown_by, "set host to an address of this machine")


def _keys(settings: Settings) -> Iterator[Finding]:
    try:
        num_keys = len(KeyFile(settings.data_folder).read())
    except KeyStoreError as error:
        yield Finding("failure", "keys", str(error), f"ls -l {settings.data_folder / KEYS_FILE}")
        return
    reach = "other machines can reach it" if is_open(settings.host) else "this machine alone can reach it"
    found = f"{num_keys or 'no'} keys; {reach}"
    if is_open(settings.host) and not num_keys:
        yield Finding("failure", "keys", found, "cloister keys list", "cloister keys create --name NAME")
    else:
        yield Finding("ok", "keys", found, "cloister keys list")


def _index(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_folder
    if not exists(folder):
        yield Finding("ok", "index", "none yet; it is made when the server starts")
        return
    anew = "stop the server, move the data folder away and start again: the index is made anew from your files"
    try:
        if (said := check_integrity(folder)) != "ok":
            yield Finding("failure", "index", f"damaged: {said}", f"ls -l {folder}", anew)
            return
        states = SqliteCatalog(folder).status()
    except (IndexingError, OSError) as error:
        yield Finding("failure", "index", str(error), f"ls -l {folder}", anew)
        return
    for state in states:
        found = f"{state.documents} documents, {len(state.failed)} that cannot be read, {state.pending} waiting"
        yield Finding("ok", f"index of {state.name}", found)


def telemetry(settings: Settings) -> Iterator[Finding]:
    names = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
    telling, shown_by = sorted(name for name in names if name.startswith(_TELEMETRY)), f"{sys.executable} -m pip list"
    if telling:
        yield Finding("warning", "no telemetry", ", ".join(telling), shown_by, "uninstall what reports its users")
    else:
        yield Finding("ok", "no telemetry", "no package that reports its users", shown_by)


def pages(settings: Settings) -> Iterator[Finding]:
    folder = _ROOT / "server"
    pages = [path for path in folder.rglob("*") if path.suffix in _PAGES]
    foreign = [path.name for path in pages if any(place in path.read_bytes() for place in _FOREIGN)]
    shown_by = f"grep -rE 'https?://' {folder} --include=*.html --include=*.js --include=*.css"
    if foreign:
        yield Finding("failure", "pages load nothing", ", ".join(foreign), shown_by)
    else:
        yield Finding(
            "ok", "pages load nothing", f"none of {len(pages)} files names another host to load from", shown_by
        )


def _offline(settings: Settings) -> Iterator[Finding]:
    flags = " ".join(f"{name}={value}" for name, value in OFFLINE.items())
    yield Finding("ok", "no lazy downloads", f"every model process gets {flags}", "tr '\\0' '\\n' < /proc/PID/environ")


def licences(settings: Settings) -> Iterator[Finding]:
    silent = [name for name, _ in pins() if not _has_licence(name)]
    shown_by = f"{sys.executable} -m pip show -v NAME"
    if silent:
        found = f"not reported by {', '.join(silent)}"
        yield Finding("warning", "licences", found, shown_by, "docs/dependencies.md names those of direct dependencies")
    else:
        yield Finding("ok", "licences", "every package tells its own", shown_by)


def pins() -> list[tuple[str, str]]:
    """Names and versions of all packages that belong here."""
    lines = _PINS.read_text().splitlines() if _PINS.is_file() else []
    return [(name, version) for name, equal, version in (line.partition("==") for line in lines) if equal]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _has_licence(name: str) -> bool:
    try:
        told = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return True  # that it is missing is said elsewhere
    classified = any(each.startswith("License ::") for each in told.get_all("Classifier") or ())
    return classified or any(told.get_all(field) for field in ("License-Expression", "License", "License-File"))


_CHECKS: tuple[Check, ...] = (
    _python,
    packages,
    _machine,
    _data,
    _folders,
    _watches,
    _chat,
    _others,
    _address,
    _keys,
    _index,
    telemetry,
    pages,
    _offline,
    licences,
)
