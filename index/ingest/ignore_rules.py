"""`.cloisterignore` files: what is not indexed, in the syntax of `.gitignore`, for the folder they lie in and below."""

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
    """What the ignore files on the way to a folder say together; a deeper one overrules."""

    layers: tuple[tuple[str, GitIgnoreSpec], ...] = ()  # folder with a / at its end, "" for the root; its rules

    def are_ignoring(self, path: str, *, is_folder: bool = False) -> bool:
        """Of something in the folder. `path` is relative to the root."""
        for folder, rules in reversed(self.layers):
            found = rules.check_file(path[len(folder) :] + "/" * is_folder).include
            if found is not None:
                return found
        return False

    def entering(self, root: Path, folder: str) -> "IgnoreRules":
        """With those of the folder's own file, if it has one. Raises `OSError` for one that cannot be read: what it
        hides is then not known."""
        try:
            with open(root / folder / IGNORE_FILE, "rb", opener=_open_itself) as file:
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return self
        lines = content.decode("utf-8-sig", errors="replace").splitlines()
        prefix = f"{folder}/" if folder else ""
        return IgnoreRules((*self.layers, (prefix, GitIgnoreSpec.from_lines(filter(_is_pattern, lines)))))


def is_ignored(root: Path, path: str) -> bool:
    """Whether a path, or a folder on the way to it, is ignored. Raises `OSError`."""
    rules, folder = IgnoreRules(), ""
    for part in path.split("/"):
        rules = rules.entering(root, folder)
        folder = f"{folder}/{part}" if folder else part
        if rules.are_ignoring(folder, is_folder=folder != path):
            return True
    return False


def rules_at(root: Path, folder: str) -> IgnoreRules | None:
    """Of the folders above this one; None when it is ignored itself. Raises `OSError`."""
    rules, above = IgnoreRules(), ""
    for part in filter(None, folder.split("/")):
        rules = rules.entering(root, above)
        above = f"{above}/{part}" if above else part
        if rules.are_ignoring(above, is_folder=True):
            return None
    return rules


def _open_itself(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except GitIgnorePatternError as error:
        _log.warning("a line of an ignore file means nothing: %s", error)
        return False
    return True
