"""Checks of the installed files: packages, their licences, telemetry, and what the web pages load."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from server.ops.finding import Finding
from server.settings.settings import Settings

_ROOT = Path(__file__).parents[2]
_PINS = _ROOT / "requirements" / "runtime.txt"
# Packages that send usage data to somebody, or are made for that.
_TELEMETRY = ("analytics-python", "datadog", "ddtrace", "mixpanel", "newrelic", "opentelemetry-exporter", "posthog")
_WEB_FILES = frozenset({".html", ".js", ".css", ".svg"})
_FOREIGN_HOSTS = (b"//cdn.", b"//unpkg.com", b"fonts.googleapis", b"fonts.gstatic")


def packages(settings: Settings) -> Iterator[Finding]:
    """Compare the versions of installed packages with the pinned ones."""
    command = f"{sys.executable} -m pip freeze"
    differences = [
        f"{name} {installed} for {pinned}" for name, pinned in pins() if (installed := _version(name)) != pinned
    ]
    if differences:
        advice = "install the pinned versions: scripts/bootstrap runtime"
        yield Finding("warning", "packages", "; ".join(differences[:5]), command, advice)
    elif _PINS.is_file():
        yield Finding("ok", "packages", "all have the pinned versions", command)
    else:
        yield Finding("warning", "packages", f"there is no {_PINS} with the pinned versions", command)


def telemetry(settings: Settings) -> Iterator[Finding]:
    """Look for packages that send usage data."""
    names = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
    senders, command = sorted(name for name in names if name.startswith(_TELEMETRY)), f"{sys.executable} -m pip list"
    if senders:
        advice = f"uninstall them: {sys.executable} -m pip uninstall {' '.join(senders)}"
        yield Finding("warning", "no telemetry", ", ".join(senders), command, advice)
    else:
        yield Finding("ok", "no telemetry", "no package sends usage data", command)


def pages(settings: Settings) -> Iterator[Finding]:
    """Look for web files that load something from another host."""
    folder = _ROOT / "server"
    files = [path for path in folder.rglob("*") if path.suffix in _WEB_FILES]
    foreign = [path.name for path in files if any(host in path.read_bytes() for host in _FOREIGN_HOSTS)]
    command = f"grep -rE 'https?://' {folder} --include=*.html --include=*.js --include=*.css"
    if foreign:
        yield Finding("failure", "pages load nothing", ", ".join(foreign), command, "install Cloister again")
    else:
        yield Finding("ok", "pages load nothing", f"none of {len(files)} files loads from another host", command)


def licences(settings: Settings) -> Iterator[Finding]:
    """Look for packages that state no licence."""
    without = [name for name, _ in pins() if not _has_licence(name)]
    command = f"{sys.executable} -m pip show -v NAME"
    if without:
        advice = "docs/dependencies.md lists the licences of direct dependencies"
        yield Finding("warning", "licences", f"not stated by {', '.join(without)}", command, advice)
    else:
        yield Finding("ok", "licences", "every package states its licence", command)


def pins() -> list[tuple[str, str]]:
    """Return the names and versions of all packages of an installation; empty without the file that pins them."""
    lines = _PINS.read_text().splitlines() if _PINS.is_file() else []
    return [(name, version) for name, equal, version in (line.partition("==") for line in lines) if equal]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _has_licence(name: str) -> bool:
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return True  # `packages` reports that it is missing
    classifiers = metadata.get_all("Classifier") or ()
    has_classifier = any(each.startswith("License ::") for each in classifiers)
    return has_classifier or any(metadata.get_all(field) for field in ("License-Expression", "License", "License-File"))
