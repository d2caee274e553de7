"""`cloister models`: which there are, what they are, and how they get here. The server itself never fetches one."""

import argparse
import re
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from models.catalog import ChatModelEntry, check_sha256, read_catalog
from models.errors import ModelFileError
from models.folder import ImportedFile, IncomingModel, ModelsFolder
from models.llm.gguf.files import model_name, model_parts
from models.llm.llama.probe import ModelInfo, probe
from server.cli.errors import Interrupted, StartError
from server.cli.flags import Commands, add_settings, settings_of
from server.cli.progress import Progress, format_size
from server.cli.terminal import strip_controls
from server.settings.settings import Settings

_PACKAGE = Path(__file__).parents[2] / "models"
_HOST = "https://huggingface.co"
_PIECE = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ModelListing(msgspec.Struct, frozen=True, omit_defaults=True):
    """`state`: built in, imported (its hash is known and compared), found (put there by hand), or not here."""

    name: str
    state: str
    size: int | None = None
    memory: int | None = None
    licence: str | None = None
    source: str | None = None
    purpose: str | None = None
    is_default: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _action(actions, "list", "which there are, here and to be had", _list)
    listing.add_argument("--json", action="store_true", help="as JSON")
    show = _action(actions, "show", "what one of them is", _show)
    show.add_argument("model", metavar="NAME|FILE")
    show.add_argument("--json", action="store_true", help="as JSON")
    taking = _action(actions, "import", "take a GGUF file in, verified from then on", _import)
    taking.add_argument("file", metavar="FILE", type=Path, help="a GGUF; of one in parts, any of them")
    taking.add_argument("--sha256", metavar="HEX", type=_sha256, help="what its SHA-256 must be")
    pull = _action(actions, "pull", "fetch a model; the only command that uses the network", _pull)
    pull.add_argument("model", metavar="NAME|URL", help="a name of the catalog, or the address of a GGUF")
    pull.add_argument("--sha256", metavar="HEX", type=_sha256, help="what its SHA-256 must be")
    pull.add_argument("--from", metavar="URL", dest="host", default=_HOST, help=f"the host (default: {_HOST})")
    _action(actions, "verify", "read every model, and compare it with what it was when it came", _verify)
    remove = _action(actions, "rm", "remove a model that was imported or fetched", _remove)
    remove.add_argument("model", metavar="NAME|FILE")


def _action(
    actions: Commands, name: str, help: str, run: Callable[[Settings, argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help)
    add_settings(parser)
    parser.set_defaults(run=lambda options: _run(run, options))
    return parser


def _run(action: Callable[[Settings, argparse.Namespace], None], options: argparse.Namespace) -> int:
    try:
        action(settings_of(options), options)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; run the same command again to go on") from None
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that cannot be written to
        where = error.filename or settings_of(options).models_folder
        raise StartError(f"{where}: {error.strerror or error}; after that, run the same command again") from None
    return 0


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError("a SHA-256 has 64 hexadecimal digits")
    return text.lower()


# What there is


def _list(settings: Settings, options: argparse.Namespace) -> None:
    found = list(_list_models(settings))
    if options.json:
        print(msgspec.json.encode(found).decode())
        return
    rows = [("", "model", "state", "size", "memory", "licence", "good for")]
    for each in found:
        size, memory = (format_size(value) if value else "" for value in (each.size, each.memory))
        mark = "*" if each.is_default else ""
        rows.append((mark, each.name, each.state, size, memory, each.licence or "", each.purpose or ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(strip_controls("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))
    print(f"\n* the default. Files are in {settings.models_folder}; import one: cloister models import FILE")


def _list_models(settings: Settings) -> Iterable[ModelListing]:
    folder = ModelsFolder(settings.models_folder)
    entries, catalog = folder.entries(), read_catalog().chat
    for name, model in catalog.items():
        path = _PACKAGE / model.file if model.source is None else folder.path / model.file
        state = "built in" if model.source is None else _state(path, entries)
        size = path.stat().st_size if path.is_file() else model.bytes
        yield ModelListing(
            name, state, size, model.memory, model.licence, model.source, model.purpose, name == settings.model
        )
    known = {model.file for model in catalog.values()}
    for path in folder.files():
        if path.name not in known and path == model_parts(path)[0]:
            size = sum(part.stat().st_size for part in model_parts(path))
            yield ModelListing(model_name(path), _state(path, entries), size, is_default=path.name == settings.model)


def _state(path: Path, entries: dict[str, ImportedFile]) -> str:
    if not path.is_file():
        return "not here"
    return "imported" if path.name in entries else "found"


def _show(settings: Settings, options: argparse.Namespace) -> None:
    path, model = _find_model(options.model, settings)
    card = probe(path)
    entry = ModelsFolder(settings.models_folder).entries().get(path.name)
    licence = card.licence or (model.licence if model else None)
    sha256 = entry.sha256 if entry else model.sha256 if model else None
    description = {**msgspec.to_builtins(card), "licence": licence, "sha256": sha256, "file": str(path)}
    if options.json:
        print(msgspec.json.encode(description).decode())
        return
    for name, value in description.items():
        print(f"{name:13} {strip_controls(_format_value(name, value))}")


def _format_value(name: str, value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{format_size(value)} ({value:,} bytes)" if name in ("file_size", "memory") else str(value)


def _find_model(name: str, settings: Settings) -> tuple[Path, ChatModelEntry | None]:
    """Return the model of a catalog name, a path or a file name in the models folder. Raises `StartError`."""
    model = read_catalog().chat.get(name)
    folder = settings.models_folder
    if model is not None:
        candidates = [_PACKAGE / model.file if model.source is None else folder / model.file]
    else:
        candidates = [folder / name, folder / f"{name}.gguf", Path(name).expanduser()]
        candidates += [path for path in ModelsFolder(folder).files() if model_name(path) == name]
    for path in candidates:
        if path.is_file():
            return path, model
    hint = f"fetch it: cloister models pull {name}" if model else "cloister models list shows those there are"
    raise StartError(f"there is no model {name!r} here; {hint}")


def _verify(settings: Settings, options: argparse.Namespace) -> None:
    folder, altered = ModelsFolder(settings.models_folder), 0
    built_in = {_PACKAGE / model.file: model.sha256 for model in read_catalog().chat.values() if model.source is None}
    entries = folder.entries()
    checks: list[tuple[Path, Callable[[], None]]] = [
        *((path, partial(check_sha256, path, sha256)) for path, sha256 in built_in.items()),
        *((folder.path / name, partial(folder.verify, folder.path / name, entry)) for name, entry in entries.items()),
    ]
    for path, check in checks:
        try:
            check()
        except ModelFileError as error:
            altered += 1
            print(f"ALTERED  {path.name}: {error.reason}")
        else:
            print(f"sound    {path.name}")
    for path in folder.files():
        if path.name not in entries:
            print(f"unknown  {path.name}: put there by hand; import it to have it compared")
    if altered:
        raise StartError(f"{altered} of {len(checks)} models are not what they were when they came")


# Getting and removing


def _import(settings: Settings, options: argparse.Namespace) -> None:
    parts = model_parts(options.file.expanduser())
    if options.sha256 and len(parts) > 1:
        raise StartError("--sha256 is of one file, and this model has several; compare them beforehand")
    cards = [probe(parts[0])]
    folder = ModelsFolder(settings.models_folder)
    for part in parts:
        if part.parent.resolve() == folder.path.resolve():
            raise StartError(f"{part} is in the models folder already; move it elsewhere to import it from there")
        with folder.receive(part.name) as incoming:
            _receive(incoming, _read(part, incoming), part.stat().st_size)
            _keep(incoming, options.sha256, str(part.absolute()))
    _print_received(settings, parts[0].name, cards[0])


def _read(path: Path, incoming: IncomingModel) -> Iterable[bytes]:
    incoming.restart()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _pull(settings: Settings, options: argparse.Namespace) -> None:
    from server.ops.fetching import FetchError, Host

    url, model = _address(options.model, options.host)
    folder, name = ModelsFolder(settings.models_folder), url.rsplit("/", 1)[-1]
    try:
        with Host() as host:
            offer = host.offer(url)
            expected = options.sha256 or (model.sha256 if model else None) or offer.sha256
            if expected is None:
                raise StartError(f"{url}: nobody tells its SHA-256; find it out, and name it: --sha256 HEX")
            with folder.receive(name) as incoming:
                if incoming.size and incoming.sha256 == expected:
                    pass  # all of it came the last time
                else:
                    _receive(incoming, host.pieces(offer, incoming), offer.size)
                card = _probe(incoming, expected)
                incoming.keep(offer.url if model is None else f"{options.host}/{model.source}")
    except FetchError as error:
        raise StartError(str(error)) from None
    _print_received(settings, name, card)


def _address(name: str, host: str) -> tuple[str, ChatModelEntry | None]:
    if "://" in name:
        if not name.rsplit("/", 1)[-1].endswith(".gguf"):
            raise StartError(f"{name} is not the address of a GGUF: it must end in .gguf")
        return name, None
    model = read_catalog().chat.get(name)
    if model is None:
        raise StartError(f"the catalog has no model {name!r}; cloister models list shows those it has")
    if model.source is None:
        raise StartError(f"{name} is built in; there is nothing to fetch")
    return f"{host.rstrip('/')}/{model.source}/resolve/main/{model.file}", model


def _receive(incoming: IncomingModel, pieces: Iterable[bytes], total: int | None) -> None:
    """Write the pieces to the models folder. Raises `StartError` before the first when there is no room for all."""
    free = shutil.disk_usage(incoming.path.parent).free
    if total is not None and total - incoming.size > free:
        raise StartError(
            f"there is no room: {format_size(total)} are needed in {incoming.path.parent}, {format_size(free)} are free"
        )
    with Progress(incoming.name, total, incoming.size) as progress:
        for piece in pieces:
            incoming.write(piece)
            progress.add(len(piece))
    if total is not None and incoming.size != total:
        raise StartError(
            f"{incoming.size:,} of {total:,} bytes came; run the same command again to go on where it stopped"
        )


def _keep(incoming: IncomingModel, expected: str | None, source: str) -> None:
    _check(incoming, expected)
    incoming.keep(source)


def _check(incoming: IncomingModel, expected: str | None) -> None:
    if expected is not None and incoming.sha256 != expected:
        actual = incoming.sha256
        incoming.discard()
        raise StartError(f"its SHA-256 is {actual}, not {expected}: this is another file; nothing was kept")


def _probe(incoming: IncomingModel, expected: str) -> ModelInfo:
    _check(incoming, expected)
    try:
        return probe(incoming.path)
    except ModelFileError as error:
        incoming.discard()
        raise StartError(f"it is no model that llama.cpp can read: {error.reason}; nothing was kept") from None


def _print_received(settings: Settings, file: str, card: ModelInfo) -> None:
    name = next((name for name, model in read_catalog().chat.items() if model.file == file), file)
    print(f"{card.name}: {card.quantization}, {format_size(card.file_size)}, takes about {format_size(card.memory)}")
    print(f"Use it: cloister serve --model {name}")


def _remove(settings: Settings, options: argparse.Namespace) -> None:
    path, _ = _find_model(options.model, settings)
    folder = ModelsFolder(settings.models_folder)
    if path.parent != folder.path:
        raise StartError(f"{path} is not in {folder.path}; only models that were imported or fetched are removed")
    for part in model_parts(path):
        folder.remove(part.name)
    print(f"Removed: {path}")
