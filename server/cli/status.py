"""`cloister status`: what the server is doing; on a terminal, as long as there is something to do."""

import argparse
import shutil
import sys
import time
from typing import Any

import httpx2
import msgspec

from server.cli.connection import add_connection, checked, connected
from server.cli.progress import spoken_size, spoken_time
from server.cli.terminal import fitted, shown

_AGAIN_S = 0.5
_WIDTH = 30  # of a bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, once")
    parser.add_argument("--once", action="store_true", help="do not wait for the index")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """1 while no question can be answered."""
    with connected(options) as client:
        health = client.get("/health")
        if health.status_code != 503:
            checked(health)
        index = _read(client)
        if options.json:
            print(msgspec.json.encode({"health": msgspec.json.decode(health.content), "index": index}).decode())
            return int(health.status_code == 503)
        for name, state in sorted(msgspec.json.decode(health.content)["processes"].items()):
            print(f"{name}: {state}")
        _follow(client, index, once=options.once or not sys.stdout.isatty())
    return int(health.status_code == 503)


def _read(client: httpx2.Client) -> Any:
    return msgspec.json.decode(checked(client.get("/v1/index/status")).content)


def _follow(client: httpx2.Client, index: Any, *, once: bool) -> None:
    """Over itself, until there is nothing left to do; leaving it changes nothing."""
    num_lines = 0
    while True:
        lines = _lines(index)
        if not once:
            columns = shutil.get_terminal_size().columns
            lines = [fitted(line, columns) for line in lines]
        up = f"\x1b[{num_lines}A" if num_lines else ""
        clear = "" if once else "\x1b[2K"
        sys.stdout.write(up + "".join(f"{clear}{line}\n" for line in lines))
        sys.stdout.flush()
        if once or not _is_at_work(index):
            return
        num_lines = len(lines)
        time.sleep(_AGAIN_S)
        index = _read(client)


def _is_at_work(index: Any) -> bool:
    return index["activity"] not in ("idle", "paused") or any(each["pending"] for each in index["collections"])


def _lines(index: Any) -> list[str]:
    """As many each time."""
    told = [index["activity"]]
    if index["files_per_s"]:
        told.append(f"{index['files_per_s']:.1f} files/s, {spoken_size(index['bytes_per_s'])}/s")
    if index["seconds_left"] is not None:
        told.append(f"{spoken_time(index['seconds_left'])} left")
    if index["error"]:
        told.append(index["error"])
    lines = (f"index: {', '.join(told)}", *map(_collection, index["collections"]))
    return [shown(line).replace("\n", " ") for line in lines]


def _collection(state: Any) -> str:
    done, total = state["bytes"], state["bytes"] + state["pending_bytes"]
    share = done / total if total else 1.0
    filled = round(share * _WIDTH)
    bar = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] " if state["pending"] else ""
    told = [f"{state['documents']} documents", f"{state['chunks']} passages"]
    told += [f"{state['pending']} waiting"] if state["pending"] else []
    told += [f"{len(state['failed'])} not readable"] if state["failed"] else []
    told += [f"{state['missing']} missing"] if state["missing"] else []
    told += [str(state["error"])] if state["error"] else []
    return f"{state['name']}: {bar}{', '.join(told)}"
