"""The parser of the command line, whose errors are one line that says what to do."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from server.cli.terminal import print_error

USAGE_ERROR = 2  # exit code


class CommandParser(argparse.ArgumentParser):
    """A parser of a command; those of its subcommands are of this class too."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments, and refuse unknown ones here, where the subcommand that lacks them is known."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]}{self._suggestion(unknown[0])}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        print_error(f"{message}; show what is possible: {self.prog} --help")
        self.exit(USAGE_ERROR)

    def _suggestion(self, argument: str) -> str:
        import difflib

        flags = [flag for action in self._actions for flag in action.option_strings]
        similar = difflib.get_close_matches(argument.partition("=")[0], flags, 1)
        return f" (did you mean {similar[0]}?)" if similar else ""


class PrintVersion(argparse.Action):
    """`--version`. Reads the version only when it is asked for, since the metadata of packages load slowly."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"cloister {version('cloister')}")
        parser.exit()
