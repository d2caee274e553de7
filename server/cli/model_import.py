"""Bring chat models into the models folder: from a file of this machine, or from a host.

A model is kept only if its SHA-256 is the expected one and llama.cpp can read it.
"""

import argparse
import shutil
from collections.abc import Iterable
from pathlib import Path

from models.catalog import ChatModelEntry, read_catalog
from models.errors import ModelFileError
from models.folder import IncomingModel, ModelsFolder
from models.llm.gguf.files import model_parts
from models.llm.llama.probe import ModelInfo, probe
from server.cli.errors import StartError
from server.cli.progress import Progress, format_size
from server.settings.settings import Settings

_PIECE_BYTES = 1 << 20


def import_model(settings: Settings, options: argparse.Namespace) -> None:
    parts = model_parts(options.file.expanduser())
    if options.sha256 and len(parts) > 1:
        raise StartError(
            "--sha256 is for one file, and this model has several; compare their SHA-256 before the import"
        )
    info = probe(parts[0])
    folder = ModelsFolder(settings.models_folder)
    for part in parts:
        if part.parent.resolve() == folder.path.resolve():
            raise StartError(
                f"{part} is in the models folder already; move it to another folder, and import it from there"
            )
        with folder.receive(part.name) as incoming:
            _receive(incoming, _read_pieces(part, incoming), part.stat().st_size)
            _check_sha256(incoming, options.sha256)
            incoming.keep(str(part.absolute()))
    _print_usage(parts[0].name, info)


def pull_model(settings: Settings, options: argparse.Namespace) -> None:
    from server.ops.fetching import FetchError, Host

    url, model = _resolve_url(options.model, options.host)
    folder, name = ModelsFolder(settings.models_folder), url.rsplit("/", 1)[-1]
    try:
        with Host() as host:
            offer = host.offer(url)
            expected = options.sha256 or (model.sha256 if model else None) or offer.sha256
            if expected is None:
                raise StartError(f"{url}: the host does not state its SHA-256; look it up, and name it: --sha256 HEX")
            with folder.receive(name) as incoming:
                if not incoming.size or incoming.sha256 != expected:  # otherwise all of it came the last time
                    _receive(incoming, host.pieces(offer, incoming), offer.size)
                info = _probe(incoming, expected)
                incoming.keep(offer.url if model is None else f"{options.host}/{model.source}")
    except FetchError as error:
        raise StartError(str(error)) from None
    _print_usage(name, info)


def _resolve_url(name: str, host: str) -> tuple[str, ChatModelEntry | None]:
    """Return the URL of a catalog name or a URL, and the catalog entry. Raises `StartError`."""
    if "://" in name:
        if not name.rsplit("/", 1)[-1].endswith(".gguf"):
            raise StartError(f"{name} is not the URL of a GGUF file: it must end in .gguf")
        return name, None
    model = read_catalog().chat.get(name)
    if model is None:
        raise StartError(f"the catalog has no model {name!r}; show those it has: cloister models list")
    if model.source is None:
        raise StartError(f"{name} is built in; use it: cloister serve --model {name}")
    return f"{host.rstrip('/')}/{model.source}/resolve/main/{model.file}", model


def _read_pieces(path: Path, incoming: IncomingModel) -> Iterable[bytes]:
    incoming.restart()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _receive(incoming: IncomingModel, pieces: Iterable[bytes], total: int | None) -> None:
    """Write the pieces to the models folder. `total` is in bytes.

    Raises `StartError` before the first piece when there is no room for all, and when fewer bytes came.
    """
    folder = incoming.path.parent
    free = shutil.disk_usage(folder).free
    if total is not None and total - incoming.size > free:
        raise StartError(f"there is no room: {folder} needs {format_size(total)}, and {format_size(free)} are free")
    with Progress(incoming.name, total, incoming.size) as progress:
        for piece in pieces:
            incoming.write(piece)
            progress.add(len(piece))
    if total is not None and incoming.size != total:
        raise StartError(f"{incoming.size:,} of {total:,} bytes came; run the same command again to continue")


def _check_sha256(incoming: IncomingModel, expected: str | None) -> None:
    if expected is not None and incoming.sha256 != expected:
        actual = incoming.sha256
        incoming.discard()
        raise StartError(f"its SHA-256 is {actual}, not {expected}: this is another file; nothing was kept")


def _probe(incoming: IncomingModel, expected: str) -> ModelInfo:
    """Return the model's properties. Deletes the file and raises `StartError` if it cannot be used."""
    _check_sha256(incoming, expected)
    try:
        return probe(incoming.path)
    except ModelFileError as error:
        incoming.discard()
        raise StartError(f"it is no model that llama.cpp can read: {error.reason}; nothing was kept") from None


def _print_usage(file: str, info: ModelInfo) -> None:
    """Print the model's properties and the command that serves it."""
    name = next((name for name, model in read_catalog().chat.items() if model.file == file), file)
    memory = format_size(info.memory)
    print(f"{info.name}: {info.quantization}, {format_size(info.file_size)}, needs about {memory} of memory")
    print(f"Use it: cloister serve --model {name}")
