"""The `cloister` command. Exit codes: 0 well ended, 1 could not start or go on, 2 wrong settings or usage, 130 ended by
Ctrl-C, or by a reader that has enough."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from index.errors import IndexingError
from models.errors import ModelError
from server.cli import (
    ask,
    bench,
    bundle,
    collections,
    completion,
    doctor,
    eval,
    keys,
    mcp,
    models,
    search,
    serve,
    status,
)
from server.cli.common import Interrupted, StartError
from server.cli.terminal import shown
from server.errors import SettingsError

_COMMANDS = (serve, ask, search, status, collections, models, keys, doctor, bundle, eval, bench, mcp, completion)

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cloister", description="Ask your own documents, offline.")
    parser.add_argument("--version", action="version", version=f"cloister {version('cloister')}")
    parser.set_defaults(parser=parser)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    os.umask(0o077)  # what is written has the documents' text in it, and is the user's alone
    _spare_encodings()
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except SettingsError as error:
        _complain(error)
        return 2
    except (StartError, ModelError, IndexingError) as error:
        _complain(error)
        return 1
    except Interrupted as error:
        _complain(error)
        return _INTERRUPTED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read it has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains as it ends
        return _INTERRUPTED
    return code


def _spare_encodings() -> None:
    """What a terminal's encoding does not have is a question mark there, never an error in the middle of an answer."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _complain(error: Exception) -> None:
    print(f"cloister: {shown(str(error)).replace(chr(10), ' ')}", file=sys.stderr)
