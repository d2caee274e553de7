"""`cloister completion`: print the script with which a shell completes commands and flags."""

import argparse

import shtab


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="shell to complete for")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    print(shtab.complete(options.parser, options.shell))
    return 0
