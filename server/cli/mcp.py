"""`cloister mcp`: the Model Context Protocol on standard input and output, for programs that start their servers."""

import argparse
import asyncio
import signal

from server.cli.connection import add_connection, url_and_key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from server.api.mcp.stdio import serve

    address, key = url_and_key(options)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing else ends the thread that waits for standard input
    asyncio.run(serve(address, key))
    return 0
