"""Checks of the data folder: its disk, the API keys and the index in it."""

import os
import shutil
from collections.abc import Iterator

from index.errors import IndexingError
from index.ingest.watcher import has_events
from index.storage.sqlite.catalog import SqliteCatalog
from index.storage.sqlite.database import FILE, check_integrity, exists
from models.memory import format_bytes
from server.access.hosts import is_open
from server.errors import KeyStoreError
from server.ops.finding import Finding
from server.settings.settings import Settings
from server.storage.local.keys import KEYS_FILE, KeyFile

_MIN_FREE_BYTES = 2_000_000_000
_REBUILD = "stop the server, move the data folder away and start again: the index is made anew from your files"


def data_folder(settings: Settings) -> Iterator[Finding]:
    """Check that the folder can be written to, is on a local disk with room, and is closed to other users."""
    name, folder = "data folder", settings.data_folder
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    command = f"df -hT {existing}; ls -ld {existing}"
    free = shutil.disk_usage(existing).free
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Finding("failure", name, f"{folder} cannot be written to", command, "name another: --data DIR")
    elif not has_events(existing):
        advice = "SQLite is not safe there; name a folder on a disk of this machine: --data DIR"
        yield Finding("failure", name, f"{folder} is on a network drive", command, advice)
    elif exists(folder) and (folder / FILE).stat().st_mode & 0o077 and folder.stat().st_mode & 0o055:
        advice = f"it has the text of your documents; close it to others: chmod -R go= {folder}"
        yield Finding("warning", name, f"other users of this machine can read {folder}", f"ls -l {folder}", advice)
    elif free < _MIN_FREE_BYTES:
        advice = "make room: the index grows with your documents"
        yield Finding("warning", name, f"{folder}, {format_bytes(free)} free", command, advice)
    else:
        yield Finding("ok", name, f"{folder}, {format_bytes(free)} free", command)


def keys(settings: Settings) -> Iterator[Finding]:
    """Check that the keys can be read, and that there is one if other machines can reach the server."""
    try:
        num_keys = len(KeyFile(settings.data_folder).read())
    except KeyStoreError as error:
        yield Finding("failure", "keys", str(error), f"ls -l {settings.data_folder / KEYS_FILE}")
        return
    clients = "other machines can reach it" if is_open(settings.host) else "this machine alone can reach it"
    found = f"{num_keys or 'no'} keys; {clients}"
    if is_open(settings.host) and not num_keys:
        yield Finding("failure", "keys", found, "cloister keys list", "create one: cloister keys create --name NAME")
    else:
        yield Finding("ok", "keys", found, "cloister keys list")


def index(settings: Settings) -> Iterator[Finding]:
    """Check the integrity of the index, and count the documents of each collection."""
    folder = settings.data_folder
    if not exists(folder):
        yield Finding("ok", "index", "none yet; it is made when the server starts")
        return
    command = f"ls -l {folder}"
    try:
        if (result := check_integrity(folder)) != "ok":
            yield Finding("failure", "index", f"damaged: {result}", command, _REBUILD)
            return
        statuses = SqliteCatalog(folder).status()
    except (IndexingError, OSError) as error:
        yield Finding("failure", "index", str(error), command, _REBUILD)
        return
    for status in statuses:
        counts = f"{status.documents} documents, {len(status.failed)} failed, {status.pending} queued"
        yield Finding("ok", f"index of {status.name}", counts)
