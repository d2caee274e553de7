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
from importlib.metadata import version

from index.errors import IndexingError
from models.errors import ModelError
from server.cli.common import Interrupted, StartError
from server.cli.terminal import strip_controls
from server.errors import SettingsError

# Each is a module of server/cli, imported only when it is chosen, so that the small ones start without the server.
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
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    os.umask(0o077)  # the files that are written hold text of documents, and belong to the user alone
    _replace_unencodable()
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except SettingsError as error:
        _print_error(error)
        return 2
    except (StartError, ModelError, IndexingError) as error:
        _print_error(error)
        return 1
    except Interrupted as error:
        _print_error(error)
        return _INTERRUPTED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return _INTERRUPTED
    return code


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser with the arguments of the chosen command; a completion script needs those of all."""
    parser = argparse.ArgumentParser(prog="cloister", description="Ask your own documents, offline.")
    parser.add_argument("--version", action="version", version=f"cloister {version('cloister')}")
    commands = parser.add_subparsers(dest="command", required=True)
    chosen = arguments[0] if arguments else ""
    for name, text in _COMMANDS.items():
        subparser = commands.add_parser(name, help=text)
        if chosen in (name, "completion"):
            importlib.import_module(f"server.cli.{name}").add_arguments(subparser)
    parser.set_defaults(parser=parser)
    return parser


def _replace_unencodable() -> None:
    """Print a question mark for what the terminal's encoding lacks, instead of failing in the middle of an answer."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _print_error(error: Exception) -> None:
    print(f"cloister: {strip_controls(str(error)).replace(chr(10), ' ')}", file=sys.stderr)
