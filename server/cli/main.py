"""The `cloister` command.

Exit codes: 0 success, 1 could not start or go on, 2 wrong settings or usage, 130 interrupted by Ctrl-C or by a closed
pipe.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from server.cli.errors import Interrupted, StartError
from server.cli.parser import USAGE_ERROR, CommandParser, PrintVersion
from server.cli.terminal import print_error

# Each command is a module of server/cli. Only the chosen one is imported, so that small commands start without the
# libraries of the server.
_COMMANDS = {
    "serve": "watch folders and answer questions about them over HTTP",
    "ask": "ask your documents; the server must be running",
    "search": "find passages; the server must be running",
    "status": "show what the server is doing, and the progress of indexing",
    "collections": "list, add, remove and rescan the watched folders",
    "models": "list, fetch, import and remove chat models",
    "keys": "create, list and revoke API keys",
    "doctor": "check the installation, and say what to do about each problem",
    "bundle": "write one archive to install from without a network",
    "eval": "measure how many questions with known answers are answered correctly",
    "bench": "measure the speed of the running server",
    "mcp": "serve the Model Context Protocol on standard input and output, for other programs",
    "completion": "print a shell's completion script",
}

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code. Wrong usage raises `SystemExit`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parser(arguments).parse_args(arguments)
        os.umask(0o077)  # the files that commands write hold text of documents, and belong to the user alone
        _replace_unencodable()
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return _INTERRUPTED
    except Exception as error:
        expected = _exit_code(error)
        if expected is None:
            raise
        print_error(error)
        return expected
    return code


def _exit_code(error: Exception) -> int | None:
    """Return the exit code for an error that the user can correct; None for any other."""
    from index.errors import IndexingError
    from models.errors import ModelError
    from server.errors import SettingsError

    if isinstance(error, SettingsError):
        return USAGE_ERROR
    if isinstance(error, Interrupted):
        return _INTERRUPTED
    return 1 if isinstance(error, (StartError, ModelError, IndexingError)) else None


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser with the arguments of the chosen command; a completion script needs those of all."""
    parser = CommandParser(prog="cloister", description="Ask your own documents, offline.")
    parser.add_argument("--version", action=PrintVersion)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    command = arguments[0] if arguments else ""
    for name, text in _COMMANDS.items():
        subparser = commands.add_parser(name, help=text)
        if command in (name, "completion"):
            importlib.import_module(f"server.cli.{name}").add_arguments(subparser)
    parser.set_defaults(parser=parser)
    return parser


def _replace_unencodable() -> None:
    """Print a question mark for what the terminal's encoding lacks, instead of failing in the middle of an answer."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
