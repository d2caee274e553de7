"""`cloister mcp`: the Model Context Protocol on standard input and output, for programs that start their servers."""

import argparse
import asyncio
import contextlib
from pathlib import Path

from server.commands.common import Commands, StartError, add_settings, address_of, settings_of


def add(commands: Commands) -> None:
    mcp = commands.add_parser("mcp", help="the Model Context Protocol on standard input and output, for other programs")
    mcp.add_argument("--url", metavar="URL", help="where Cloister runs (default: the host and port that are set)")
    mcp.add_argument("--key-file", metavar="FILE", type=Path, help="a file with the key, where the server wants one")
    add_settings(mcp)
    mcp.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from server.mcp.stdio import serve

    settings = settings_of(options)
    address: str = options.url or address_of(settings.host, settings.port)
    try:
        key = options.key_file.read_text().strip() if options.key_file else None
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"the key file {options.key_file} cannot be read: {error}") from None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(address.rstrip("/"), key))
    return 0
