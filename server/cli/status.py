"""`cloister status`: show the state of the server, and on a terminal the progress of indexing until it is done."""

import argparse
import shutil
import sys
import time
from typing import Any

import httpx2
import msgspec

from server.cli.connection import add_connection, check_reply, open_client
from server.cli.progress import format_duration, format_size
from server.cli.terminal import fit_line, strip_controls

_REFRESH_S = 0.5
_BAR_WIDTH = 30  # characters
_ACTIVITIES = {
    "idle": "Up to date",
    "scanning": "Scanning",
    "indexing": "Indexing",
    "embedding": "Embedding",
    "paused": "Paused",
    "waiting": "Waiting",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, once")
    parser.add_argument("--once", action="store_true", help="print once, and do not wait for indexing")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Return 1 while no question can be answered."""
    with open_client(options) as client:
        health = client.get("/health")
        if health.status_code != 503:
            check_reply(health)
        index = _read(client)
        if options.json:
            print(msgspec.json.encode({"health": msgspec.json.decode(health.content), "index": index}).decode())
            return int(health.status_code == 503)
        for name, state in sorted(msgspec.json.decode(health.content)["processes"].items()):
            print(f"{name}: {state}")
        _follow(client, index, once=options.once or not sys.stdout.isatty())
    return int(health.status_code == 503)


def _read(client: httpx2.Client) -> Any:
    return msgspec.json.decode(check_reply(client.get("/v1/index/status")).content)


def _follow(client: httpx2.Client, index: Any, *, once: bool) -> None:
    """Print the status over itself until indexing is done. Interrupting it changes nothing on the server."""
    num_lines = 0
    while True:
        lines = _lines(index)
        if not once:
            columns = shutil.get_terminal_size().columns
            lines = [fit_line(line, columns) for line in lines]
        up = f"\x1b[{num_lines}A" if num_lines else ""
        clear = "" if once else "\x1b[2K"
        sys.stdout.write(up + "".join(f"{clear}{line}\n" for line in lines))
        sys.stdout.flush()
        if once or not _is_indexing(index):
            return
        num_lines = len(lines)
        time.sleep(_REFRESH_S)
        index = _read(client)


def _is_indexing(index: Any) -> bool:
    return index["activity"] not in ("idle", "paused") or any(each["pending"] for each in index["collections"])


def _lines(index: Any) -> list[str]:
    """Return one line for the indexer and one for each collection."""
    parts = [_ACTIVITIES.get(index["activity"], index["activity"])]
    if index["files_per_s"]:
        parts.append(f"{index['files_per_s']:.1f} files/s, {format_size(index['bytes_per_s'])}/s")
    if index["seconds_left"] is not None:
        parts.append(f"{format_duration(index['seconds_left'])} left")
    if index["error"]:
        parts.append(index["error"])
    lines = (f"index: {', '.join(parts)}", *map(_collection, index["collections"]))
    return [strip_controls(line).replace("\n", " ") for line in lines]


def _collection(state: Any) -> str:
    done, total = state["bytes"], state["bytes"] + state["pending_bytes"]
    share = done / total if total else 1.0
    filled = round(share * _BAR_WIDTH)
    bar = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] " if state["pending"] else ""
    parts = [f"Indexed: {state['documents']} documents, {state['chunks']} chunks"]
    parts += [f"Queued: {state['pending']}"] if state["pending"] else []
    parts += [f"Failed: {len(state['failed'])}"] if state["failed"] else []
    parts += [f"Missing: {state['missing']}"] if state["missing"] else []
    parts += [str(state["error"])] if state["error"] else []
    return f"{state['name']}: {bar}{'; '.join(parts)}"
