"""`cloister collections`: list, add, remove and rescan the folders that the settings file names."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError

from server.cli.connection import ServerUnreachable, add_connection, check_reply, open_client
from server.cli.errors import StartError
from server.cli.flags import Commands
from server.cli.terminal import strip_controls
from server.settings.reading import CONFIG_FILE, docs_from_flags
from server.settings.settings import folder_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _add_action(actions, "list", "list the collections and their indexed documents", _list)
    listing.add_argument("--json", action="store_true", help="print JSON")
    adding = _add_action(actions, "add", "watch another folder", _add)
    adding.add_argument(
        "folder", metavar="[NAME=]DIR", help="folder to watch, and the collection's name (default: the folder's)"
    )
    removing = _add_action(
        actions, "rm", "stop watching a folder; its documents leave the index, its files stay", _remove
    )
    removing.add_argument("name", metavar="NAME", help="collection to remove")
    rescan = _add_action(actions, "rescan", "rescan the folders now, and retry failed files", _rescan)
    rescan.add_argument("name", metavar="NAME", nargs="?", help="collection to rescan (default: all)")
    rescan.add_argument(
        "--accept-deletions",
        action="store_true",
        help="remove from the index all documents whose files are missing, however many",
    )


def _add_action(actions: Commands, name: str, help: str, run: Any) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help)
    add_connection(parser)
    parser.set_defaults(run=run)
    return parser


def _list(options: argparse.Namespace) -> int:
    with open_client(options) as client:
        reply = check_reply(client.get("/v1/collections"))
        if options.json:
            print(reply.text)
            return 0
        for collection in msgspec.json.decode(reply.content)["data"]:
            print(strip_controls(f"{collection['id']:20} {collection['documents']:8} documents  {collection['root']}"))
    return 0


def _add(options: argparse.Namespace) -> int:
    ((name, folder),) = (docs_from_flags([options.folder]) or {}).items()
    root = folder_of(name, folder)
    with _edit_docs(options) as docs:
        if name in docs:
            raise StartError(f"there is a collection {name!r} already, {docs[name]}; use another name: OTHER={folder}")
        docs[name] = str(root)
    _reload_server(options, name, is_there=True)
    return 0


def _remove(options: argparse.Namespace) -> int:
    with _edit_docs(options) as docs:
        if options.name not in docs:
            known = ", ".join(docs) or "none"
            raise StartError(f"{_file(options)} has no collection {options.name!r}; it has: {known}")
        del docs[options.name]
    _reload_server(options, options.name, is_there=False)
    return 0


def _rescan(options: argparse.Namespace) -> int:
    body = {"collection": options.name, "accept_deletions": options.accept_deletions}
    with open_client(options) as client:
        check_reply(client.post("/v1/index/rescan", json=body))
    print("Rescanning. Show the progress: cloister status")
    return 0


def _file(options: argparse.Namespace) -> Path:
    config: Path | None = options.config
    return config or Path(CONFIG_FILE)


@contextlib.contextmanager
def _edit_docs(options: argparse.Namespace) -> Any:
    """Yield the table `docs` of the settings file, and write the file when the block ends without an error.

    All else in the file stays as it is. Raises `StartError`.
    """
    path = _file(options)
    try:
        document = tomlkit.parse(path.read_text() if path.exists() else "")
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise StartError(f"the settings file {path} cannot be read: {error}; correct it") from None
    docs = document.setdefault("docs", tomlkit.table())
    if not isinstance(docs, dict):
        raise StartError(f"in the settings file {path}, docs is not a table; make it one: [docs]")
    yield docs
    temporary = path.with_name(f".{path.name}.new")
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        with temporary.open("w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(tomlkit.dumps(document))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StartError(f"the settings file {path} cannot be written: {error.strerror or error}") from None


def _reload_server(options: argparse.Namespace, name: str, *, is_there: bool) -> None:
    """Have a running server apply the changed settings file. Raises `StartError` if it does not."""
    print(f"{_file(options)}: {name} is {'added' if is_there else 'removed'}")
    try:
        with open_client(options) as client:
            watched = _reload(client)
    except ServerUnreachable:
        print("No server is running; the next start watches it." if is_there else "No server is running.")
        return
    if (name in watched) == is_there:
        print(f"The server watches: {', '.join(watched) or 'no folder'}")
    else:
        raise StartError("the running server has other settings, or was started with --docs; restart it to apply this")


def _reload(client: httpx2.Client) -> list[str]:
    names: list[str] = msgspec.json.decode(check_reply(client.post("/v1/index/reload")).content)["collections"]
    return names
