"""`cloister completion`: the script by which a shell completes commands and flags."""

import argparse

import shtab

from server.cli.common import Commands


def add(commands: Commands) -> None:
    completion = commands.add_parser("completion", help="print a shell's completion script")
    completion.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    completion.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    print(shtab.complete(options.parser, options.shell))
    return 0
