"""The chat models that are here or in the catalog, and their properties, as `cloister models` prints them."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from models.catalog import ChatModelEntry, read_catalog
from models.folder import ImportedFile, ModelsFolder
from models.llm.gguf.files import model_name, model_parts
from models.llm.llama.probe import probe
from server.cli.errors import StartError
from server.cli.progress import format_size
from server.cli.terminal import strip_controls
from server.settings.settings import Settings

BUILT_IN_FOLDER = Path(__file__).parents[2] / "models"
_HEADER = ("", "model", "state", "size", "memory", "licence", "good for")


class ModelListing(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model in the list. `size` and `memory` are in bytes.

    `state`: built in; imported (its SHA-256 is recorded); found (a file without a recorded SHA-256); not here.
    """

    name: str
    state: str
    size: int | None = None
    memory: int | None = None
    licence: str | None = None
    source: str | None = None
    purpose: str | None = None
    is_default: bool = False


def print_models(settings: Settings, options: argparse.Namespace) -> None:
    models = list(list_models(settings))
    if options.json:
        print(msgspec.json.encode(models).decode())
        return
    rows = [_HEADER, *map(_row, models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for row in rows:
        print(strip_controls("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))
    print(f"\n* default model. Files are in {settings.models_folder}; add one: cloister models import FILE")


def list_models(settings: Settings) -> Iterable[ModelListing]:
    """Yield the models of the catalog, then those of the models folder that the catalog does not have."""
    folder = ModelsFolder(settings.models_folder)
    entries, catalog = folder.entries(), read_catalog().chat
    for name, model in catalog.items():
        path = BUILT_IN_FOLDER / model.file if model.source is None else folder.path / model.file
        yield ModelListing(
            name=name,
            state="built in" if model.source is None else _state(path, entries),
            size=path.stat().st_size if path.is_file() else model.bytes,
            memory=model.memory,
            licence=model.licence,
            source=model.source,
            purpose=model.purpose,
            is_default=name == settings.model,
        )
    catalog_files = {model.file for model in catalog.values()}
    for path in folder.files():
        if path.name not in catalog_files and path == model_parts(path)[0]:
            size = sum(part.stat().st_size for part in model_parts(path))
            yield ModelListing(model_name(path), _state(path, entries), size, is_default=path.name == settings.model)


def show_model(settings: Settings, options: argparse.Namespace) -> None:
    path, model = find_model(options.model, settings)
    info = probe(path)
    entry = ModelsFolder(settings.models_folder).entries().get(path.name)
    licence = info.licence or (model.licence if model else None)
    sha256 = entry.sha256 if entry else model.sha256 if model else None
    properties = {**msgspec.to_builtins(info), "licence": licence, "sha256": sha256, "file": str(path)}
    if options.json:
        print(msgspec.json.encode(properties).decode())
        return
    for name, value in properties.items():
        print(f"{name:13} {strip_controls(_format_value(name, value))}")


def find_model(name: str, settings: Settings) -> tuple[Path, ChatModelEntry | None]:
    """Return the file of a model and its catalog entry, if it has one. Raises `StartError`.

    `name` is a catalog name, a path, or the name of a file in the models folder.
    """
    model = read_catalog().chat.get(name)
    folder = settings.models_folder
    if model is not None:
        candidates = [BUILT_IN_FOLDER / model.file if model.source is None else folder / model.file]
    else:
        candidates = [folder / name, folder / f"{name}.gguf", Path(name).expanduser()]
        candidates += [path for path in ModelsFolder(folder).files() if model_name(path) == name]
    for path in candidates:
        if path.is_file():
            return path, model
    hint = f"download it: cloister models pull {name}" if model else "show those that are: cloister models list"
    raise StartError(f"there is no model {name!r} here; {hint}")


def _row(model: ModelListing) -> tuple[str, ...]:
    size, memory = (format_size(value) if value else "" for value in (model.size, model.memory))
    mark = "*" if model.is_default else ""
    return mark, model.name, model.state, size, memory, model.licence or "", model.purpose or ""


def _state(path: Path, entries: dict[str, ImportedFile]) -> str:
    if not path.is_file():
        return "not here"
    return "imported" if path.name in entries else "found"


def _format_value(name: str, value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{format_size(value)} ({value:,} bytes)" if name in ("file_size", "memory") else str(value)
