"""Read the settings. Later layers override earlier ones: defaults, cloister.toml, CLOISTER_… variables, command line.

A setting that does not exist or is out of range is refused with its path.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from server.errors import SettingsError
from server.settings.renamed import check_names
from server.settings.settings import Settings

PREFIX = "CLOISTER_"
CONFIG_FILE = "cloister.toml"


def read_settings(config: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Return the merged settings. Without `config`, `./cloister.toml` is read if it exists.

    `flags` has the shape of the tree; None stands for a flag that is not given. Raises `SettingsError`.
    """
    layers = [_from_file(config), _from_environment(environ), _drop_none(flags)]
    merged: dict[str, Any] = {}
    for layer in layers:
        check_names(layer)
        merged = _merge(merged, layer)
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _settings_error(str(error)) from None


def docs_from_flags(flags: list[str]) -> dict[str, str] | None:
    """Return the folders by collection name; None without flags. A flag is `DIR` or `NAME=DIR`.

    Without a name, the last part of the folder's path becomes the name. Raises `SettingsError` for a name given twice.
    """
    docs: dict[str, str] = {}
    for flag in flags:
        name, equals, folder = flag.partition("=")
        if not equals:
            name, folder = _collection_name(flag), flag
        if name in docs:
            raise SettingsError(
                f"docs.{name}", f"two folders have this name; give one of them another: --docs OTHER={folder}"
            )
        docs[name] = folder
    return docs or None


def _collection_name(folder: str) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", Path(folder).expanduser().absolute().name.lower()).strip("-_")[:64]
    return name or "docs"


def _from_file(config: Path | None) -> dict[str, Any]:
    path = config or Path(CONFIG_FILE)
    if config is None and not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            "", f"the settings file {path} cannot be read: {reason}; name another: --config FILE"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("", f"the settings file {path} is not valid TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the tree of settings in the environment: `CLOISTER_ENGINE__N_CTX=8192` sets `engine.n_ctx`."""
    tree: dict[str, Any] = {}
    for key, value in environ.items():
        if key.startswith(PREFIX):
            *parents, leaf = key.removeprefix(PREFIX).lower().split("__")
            node: dict[str, Any] = {leaf: value}
            for parent in reversed(parents):
                node = {parent: node}
            tree = _merge(tree, node)
    return tree


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree `below` with the fields of `above` in it. `docs` is replaced as a whole, not merged."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) and key != "docs" else value
        )
    return merged


def _drop_none(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flags.items() if value is not None}


_LOCATION = re.compile(r"^(?P<reason>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")


def _settings_error(message: str) -> SettingsError:
    """Return msgspec's message as an error with the path of the setting and the reason."""
    match = _LOCATION.match(message)
    assert match is not None
    reason, path = match["reason"], match["path"] or ""
    if unknown := _UNKNOWN.fullmatch(reason):
        setting = ".".join(filter(None, (path, unknown["field"])))
        return SettingsError(setting, "there is no such setting; docs/settings.md lists all settings")
    return SettingsError(path, reason.replace("`", ""))
