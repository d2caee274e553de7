"""`cloister doctor`: check an installation, and say what to do about each problem."""

import argparse
import sys

import msgspec

from server.cli.flags import add_serving, serving_settings
from server.ops.airgap import statements
from server.ops.diagnosis import findings
from server.ops.finding import Finding

_COLOURS = {"ok": "32", "warning": "33", "failure": "31"}
_MARKS = {"ok": "ok  ", "warning": "warn", "failure": "FAIL"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_serving(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--commands", action="store_true", help="also print the commands that show the same without Cloister"
    )
    parser.add_argument(
        "--air-gap",
        action="store_true",
        help="prove the ten statements of docs/air-gap.md on this machine, with a trial run",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the findings, and return 1 if one is a failure."""
    results: list[Finding] = []
    settings = serving_settings(options)
    for finding in statements(settings) if options.air_gap else findings(settings):
        results.append(finding)
        if not options.json:
            _print_finding(finding, with_commands=options.commands)
    if options.json:
        print(msgspec.json.encode(results).decode())
    failures = sum(finding.state == "failure" for finding in results)
    warnings = sum(finding.state == "warning" for finding in results)
    if not options.json:
        print(f"\n{failures} failures, {warnings} warnings, {len(results)} checks.")
    return 1 if failures else 0


def _print_finding(finding: Finding, *, with_commands: bool) -> None:
    mark = _MARKS[finding.state]
    if sys.stdout.isatty():
        mark = f"\x1b[{_COLOURS[finding.state]}m{mark}\x1b[0m"
    print(f"{mark}  {finding.name}: {finding.found}", flush=True)
    if finding.advice:
        print(f"      {finding.advice}")
    if with_commands and finding.shown_by:
        print(f"      $ {finding.shown_by}")
