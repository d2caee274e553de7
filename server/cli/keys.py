"""`cloister keys`: create, list and revoke API keys. A running server applies changes at once."""

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
_PER_MINUTE = {"s": 60.0, "min": 1.0, "h": 1 / 60}
_TIME = re.compile(r"([1-9][0-9]{0,4})([mhdwy])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = _add_action(actions, "create", "create a key; it is shown once", _create)
    create.add_argument("--name", required=True, type=_name, help="name of the key, such as its user")
    create.add_argument(
        "--role",
        choices=[role.name.lower() for role in Role],
        default="read",
        help="default: read",
    )
    create.add_argument("--collections", metavar="A,B", help="collections the key may see (default: all)")
    create.add_argument(
        "--rate",
        metavar="N[/s|min|h]",
        type=_rate,
        help="most requests, per minute if no unit is given",
    )
    create.add_argument(
        "--expires", metavar="N[m|h|d|w|y]", type=_duration, help="time until the key expires (default: never)"
    )
    _add_action(actions, "list", "list the keys", _list)
    revoke = _add_action(actions, "revoke", "delete a key, so that it is refused", _revoke)
    revoke.add_argument("key", metavar="NAME|ID", help="key to delete")


def _add_action(
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
        names = [collection.name for collection in settings_of(options).collections()]
        if unknown := [name for name in collections if name not in names]:
            note = f"Note: the settings name no collection {', '.join(unknown)}; they name {', '.join(names)}."
            print(note, file=sys.stderr)
    expires_at = None if options.expires is None else int(time.time()) + options.expires
    key, text = file.create(options.name, Role[options.role.upper()], collections, options.rate, expires_at)
    print(text)
    print(f"\n{_format_key(key)}\nOnly its hash is stored: copy it now. Clients send it as their API key.")


def _list(file: KeyFile, _: argparse.Namespace) -> None:
    for key in file.read():
        print(_format_key(key))
    if not file.read():
        print("There are no keys: the server listens on this machine only, and every user of it has access.")


def _revoke(file: KeyFile, options: argparse.Namespace) -> None:
    print(f"Revoked: {_format_key(file.revoke(options.key))}")
    if not file.read():
        print("No keys are left: every user of this machine has access until you create another.")


def _format_key(key: Key) -> str:
    access = "every collection" if key.collections is None else f"{', '.join(key.collections) or 'no collection'}"
    rate = f", {key.rate} requests per minute" if key.rate else ""
    if key.expires_at is None:
        expiry = ""
    else:
        label = "expired" if key.expires_at <= time.time() else "until"
        expiry = f", {label} {time.strftime('%Y-%m-%d %H:%M', time.localtime(key.expires_at))}"
    return f"{key.id}  {key.name}: {key.role}, {access}{rate}{expiry}"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("a name has 1 to 64 letters, digits, '.', '_', '@' and '-'")
    return text


def _rate(text: str) -> int:
    """Return the requests per minute."""
    match = _RATE.fullmatch(text)
    if match is None or (rate := int(int(match[1]) * _PER_MINUTE[match[2] or "min"])) < 1:
        raise argparse.ArgumentTypeError("a rate is at least one request per minute, such as 60/min, 2/s or 600/h")
    return rate


def _duration(text: str) -> int:
    """Return the seconds."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("a time is a number and its unit, such as 30d, 12h or 1y")
    return int(match[1]) * _SECONDS[match[2]]
