"""The `cloister` command. Exit codes: 0 well ended, 1 could not start or go on, 2 wrong settings or usage."""

import argparse
import os
import sys
from collections.abc import Sequence

from index.errors import IndexingError
from models.errors import ModelError
from server.commands import ask, bundle, doctor, keys, mcp, models, search, serve, status
from server.commands.common import StartError
from server.settings import SettingsError

_COMMANDS = (serve, ask, search, status, models, keys, doctor, bundle, mcp)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cloister", description="Ask your own documents, offline.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    os.umask(0o077)  # what is written has the documents' text in it, and is the user's alone
    try:
        code: int = options.run(options)
    except SettingsError as error:
        print(f"cloister: {error}", file=sys.stderr)
        return 2
    except (StartError, ModelError, IndexingError) as error:
        print(f"cloister: {error}", file=sys.stderr)
        return 1
    return code
