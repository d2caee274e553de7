"""`.cloisterignore` files: patterns, as in `.gitignore`, of what is not indexed in their folder and below it."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

_log = logging.getLogger(__name__)

IGNORE_FILE = ".cloisterignore"
_MAX_BYTES = 1 << 20


class IgnoreRules(NamedTuple):
    """The rules of the ignore files in a folder and in those above it; a deeper file overrules."""

    layers: tuple[tuple[str, GitIgnoreSpec], ...] = ()  # a folder, with a / at its end or "" for the root; its rules

    def match(self, path: str, *, is_folder: bool = False) -> bool:
        """Return whether an entry of the folder is ignored. `path` is relative to the root."""
        for folder, rules in reversed(self.layers):
            include = rules.check_file(path[len(folder) :] + "/" * is_folder).include
            if include is not None:
                return include
        return False

    def enter(self, root: Path, folder: str) -> "IgnoreRules":
        """Return these rules with those of a folder's own ignore file, if it has one.

        Raises `OSError` for a file that cannot be read: what it ignores is then not known.
        """
        try:
            with open(root / folder / IGNORE_FILE, "rb", opener=_open_no_follow) as file:
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return self
        lines = content.decode("utf-8-sig", errors="replace").splitlines()
        prefix = f"{folder}/" if folder else ""
        return IgnoreRules((*self.layers, (prefix, GitIgnoreSpec.from_lines(filter(_is_pattern, lines)))))


def is_ignored(root: Path, path: str) -> bool:
    """Return whether a path, or a folder on the way to it, is ignored. Raises `OSError`."""
    rules, folder = IgnoreRules(), ""
    for part in path.split("/"):
        rules = rules.enter(root, folder)
        folder = f"{folder}/{part}" if folder else part
        if rules.match(folder, is_folder=folder != path):
            return True
    return False


def rules_at(root: Path, folder: str) -> IgnoreRules | None:
    """Return the rules of the folders above this one; None when it is ignored itself. Raises `OSError`."""
    rules, above = IgnoreRules(), ""
    for part in filter(None, folder.split("/")):
        rules = rules.enter(root, above)
        above = f"{above}/{part}" if above else part
        if rules.match(above, is_folder=True):
            return None
    return rules


def _open_no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except GitIgnorePatternError as error:
        _log.warning("a line of an ignore file is not a pattern and is skipped: %s", error)
        return False
    return True
