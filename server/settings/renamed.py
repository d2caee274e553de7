"""Refuse old names of settings, with the new name in the error."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from server.errors import SettingsError

# Old name: new name. Dotted paths, as docs/settings.md lists them.
RENAMED: Final = {
    "memory_budget": "memory_budget_bytes",
    "engine.n_threads": "engine.num_threads",
    "engine.n_slots": "engine.num_slots",
    "engine.n_cached": "engine.num_cached_prefixes",
    "engine.n_parked": "engine.offload_tokens",
    "engine.prefix_disk": "engine.prefix_disk_bytes",
    "rag.brief": "rag.max_passage_chars",
    "rag.memory": "rag.history_bytes",
}


def check_names(tree: Mapping[str, Any]) -> None:
    """Raise `SettingsError` for the first old name in a tree of settings."""
    for path in _paths(tree):
        if new := RENAMED.get(path):
            variable = f"CLOISTER_{new.upper().replace('.', '__')}"
            raise SettingsError(path, f"this setting is now called {new} ({variable} in the environment)")


def _paths(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{name}.")
