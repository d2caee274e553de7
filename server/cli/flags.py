"""The flags that several commands have, and the settings that result from them."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.settings.reading import docs_from_flags, read_settings
from server.settings.settings import Settings

if TYPE_CHECKING:  # a type that only type checkers can subscript
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = Any


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags from which every command knows the data folder."""
    parser.add_argument(
        "--data", metavar="DIR", help="folder of index, keys and models (default: the platform's data folder)"
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="settings file (default: ./cloister.toml, if it exists)"
    )


def add_serving(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `cloister serve`, which `cloister doctor` takes too."""
    parser.add_argument(
        "--docs",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="folder to watch, as a collection of this name (repeatable; default: the user manual)",
    )
    add_settings(parser)
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", metavar="N", help="port to listen on (default: 8000)")
    parser.add_argument("--model", metavar="NAME|FILE", help="chat model: a catalog name or the path of a GGUF file")


def serving_settings(options: argparse.Namespace) -> Settings:
    """Return the settings with the flags of `add_serving`. Raises `SettingsError`."""
    flags = {name: getattr(options, name) for name in ("host", "port", "model")}
    return settings_of(options, **flags, docs=docs_from_flags(options.docs))


def settings_of(options: argparse.Namespace, **flags: Any) -> Settings:
    """Return the settings with these flags. Raises `SettingsError`."""
    return read_settings(options.config, os.environ, {"data": options.data, **flags})


def address_of(host: str, port: int) -> str:
    """Return the URL by which this machine reaches a server that listens there."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
