"""`cloister collections`: the folders that are watched, as the settings file names them."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError

from server.cli.common import Commands, StartError
from server.cli.connection import NothingAnswers, add_connection, checked, connected
from server.cli.terminal import shown
from server.settings.reading import CONFIG_FILE, docs_from_flags
from server.settings.settings import folder_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    listing = _action(actions, "list", "which there are, and how far each is indexed", _list)
    listing.add_argument("--json", action="store_true", help="as JSON")
    adding = _action(actions, "add", "watch another folder, from now on", _add)
    adding.add_argument(
        "folder", metavar="[NAME=]DIR", help="the folder, and its name, if it is not to be the last part"
    )
    removing = _action(actions, "rm", "watch a folder no more; its files stay, and are no longer found", _remove)
    removing.add_argument("name", metavar="NAME")
    rescan = _action(actions, "rescan", "compare the folders with the index now, and try failed files again", _rescan)
    rescan.add_argument("name", metavar="NAME", nargs="?", help="this one alone")
    rescan.add_argument(
        "--accept-deletions", action="store_true", help="documents go whose files are missing, however many"
    )


def _action(actions: Commands, name: str, help: str, run: Any) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help)
    add_connection(parser)
    parser.set_defaults(run=run)
    return parser


def _list(options: argparse.Namespace) -> int:
    with connected(options) as client:
        reply = checked(client.get("/v1/collections"))
        if options.json:
            print(reply.text)
            return 0
        for each in msgspec.json.decode(reply.content)["data"]:
            print(shown(f"{each['id']:20} {each['documents']:8} documents  {each['root']}"))
    return 0


def _add(options: argparse.Namespace) -> int:
    ((name, folder),) = (docs_from_flags([options.folder]) or {}).items()
    root = folder_of(name, folder)
    with _changing(options) as docs:
        if name in docs:
            raise StartError(
                f"there is a collection {name!r}, {docs[name]}; give this one another name: OTHER={folder}"
            )
        docs[name] = str(root)
    _take_up(options, name, is_there=True)
    return 0


def _remove(options: argparse.Namespace) -> int:
    with _changing(options) as docs:
        if options.name not in docs:
            known = ", ".join(docs) or "none"
            raise StartError(f"{_file(options)} has no collection {options.name!r}; it has: {known}")
        del docs[options.name]
    _take_up(options, options.name, is_there=False)
    return 0


def _rescan(options: argparse.Namespace) -> int:
    body = {"collection": options.name, "accept_deletions": options.accept_deletions}
    with connected(options) as client:
        checked(client.post("/v1/index/rescan", json=body))
    print("The folders are being compared; how far that is: cloister status")
    return 0


def _file(options: argparse.Namespace) -> Path:
    found: Path | None = options.config
    return found or Path(CONFIG_FILE)


@contextlib.contextmanager
def _changing(options: argparse.Namespace) -> Any:
    """The table `docs` of the settings file, which is written when this is left well; all else in it stays as it is.
    Raises `StartError`."""
    path = _file(options)
    try:
        document = tomlkit.parse(path.read_text() if path.exists() else "")
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise StartError(f"the settings file {path} cannot be changed: {error}") from None
    docs = document.setdefault("docs", tomlkit.table())
    if not isinstance(docs, dict):
        raise StartError(f"in the settings file {path}, docs is no table")
    yield docs
    fresh = path.with_name(f".{path.name}.new")
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        with fresh.open("w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(tomlkit.dumps(document))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StartError(f"the settings file {path} cannot be written: {error.strerror or error}") from None


def _take_up(options: argparse.Namespace, name: str, *, is_there: bool) -> None:
    """By the server, if it runs."""
    print(f"{_file(options)}: {name} is {'added' if is_there else 'removed'}")
    try:
        with connected(options) as client:
            followed = _reload(client)
    except NothingAnswers:
        print("No server runs; the next one starts with it." if is_there else "No server runs.")
        return
    if (name in followed) == is_there:
        print(f"The server watches: {', '.join(followed) or 'no folder'}")
    else:
        raise StartError("the server was started with other settings or with --docs; start it again to have it follow")


def _reload(client: httpx2.Client) -> list[str]:
    found: list[str] = msgspec.json.decode(checked(client.post("/v1/index/reload")).content)["collections"]
    return found
