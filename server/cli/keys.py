"""`cloister keys`: who may ask. A server that is running knows at once."""

import argparse
import re
import sys
import time
from collections.abc import Callable

from server.access.keys import Key, Role
from server.cli.errors import StartError
from server.cli.flags import Commands, add_settings, settings_of
from server.errors import KeyStoreError
from server.storage.local.keys import KeyFile

_RATE = re.compile(r"([1-9][0-9]{0,5})(?:/(s|min|h))?")
_A_MINUTE = {"s": 60.0, "min": 1.0, "h": 1 / 60}
_TIME = re.compile(r"([1-9][0-9]{0,4})([mhdwy])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = _action(actions, "create", "make a key; its text is shown once", _create)
    create.add_argument("--name", required=True, type=_name, help="what it is for")
    create.add_argument("--role", choices=[role.name.lower() for role in Role], default="read", help="default: read")
    create.add_argument("--collections", metavar="A,B", help="what it may see (default: everything)")
    create.add_argument("--rate", metavar="N[/s|min|h]", type=_rate, help="requests, a minute unless said otherwise")
    create.add_argument("--expires", metavar="N[m|h|d|w|y]", type=_duration, help="for how long it is valid")
    _action(actions, "list", "what keys there are", _list)
    revoke = _action(actions, "revoke", "take a key back", _revoke)
    revoke.add_argument("key", metavar="NAME|ID")


def _action(
    actions: Commands, name: str, help: str, run: Callable[[KeyFile, argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help)
    add_settings(parser)
    parser.set_defaults(run=lambda options: _run(run, options))
    return parser


def _run(action: Callable[[KeyFile, argparse.Namespace], None], options: argparse.Namespace) -> int:
    data = settings_of(options).data_folder
    try:
        data.mkdir(parents=True, exist_ok=True)
        action(KeyFile(data), options)
    except KeyStoreError as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(f"{data}: {error.strerror}") from None
    return 0


def _create(file: KeyFile, options: argparse.Namespace) -> None:
    collections = None if options.collections is None else [c.strip() for c in options.collections.split(",")]
    if collections is not None:
        known = [collection.name for collection in settings_of(options).collections()]
        if unknown := [name for name in collections if name not in known]:
            note = f"Note: the settings name no collection {', '.join(unknown)}; they name: {', '.join(known)}."
            print(note, file=sys.stderr)
    expires_at = None if options.expires is None else int(time.time()) + options.expires
    key, text = file.create(options.name, Role[options.role.upper()], collections, options.rate, expires_at)
    print(text)
    print(f"\n{_line(key)}\nIt is not kept in readable form: copy it now. Clients send it as their API key.")


def _list(file: KeyFile, _: argparse.Namespace) -> None:
    for key in file.read():
        print(_line(key))
    if not file.read():
        print("There is no key: whoever reaches the server may use it, and it listens on this machine alone.")


def _revoke(file: KeyFile, options: argparse.Namespace) -> None:
    print(f"Revoked: {_line(file.revoke(options.key))}")
    if not file.read():
        print("There is no key left: whoever reaches the server may use it, until you make another.")


def _line(key: Key) -> str:
    sees = "every collection" if key.collections is None else f"{', '.join(key.collections) or 'no collection'}"
    rate = f", {key.rate} requests a minute" if key.rate else ""
    if key.expires_at is None:
        until = ""
    else:
        passed = "expired" if key.expires_at <= time.time() else "until"
        until = f", {passed} {time.strftime('%Y-%m-%d %H:%M', time.localtime(key.expires_at))}"
    return f"{key.id}  {key.name}: {key.role}, {sees}{rate}{until}"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("a name is 1 to 64 of letters, digits, '.', '_', '@' and '-'")
    return text


def _rate(text: str) -> int:
    """Requests a minute."""
    match = _RATE.fullmatch(text)
    if match is None or (rate := int(int(match[1]) * _A_MINUTE[match[2] or "min"])) < 1:
        raise argparse.ArgumentTypeError("a rate is at least one a minute, such as 60/min, 2/s or 600/h")
    return rate


def _duration(text: str) -> int:
    """Seconds."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("a time is a number and its unit, such as 30d, 12h or 1y")
    return int(match[1]) * _SECONDS[match[2]]
