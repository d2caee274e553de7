"""`cloister models`: list, show, import, download, verify and remove chat models. The server never downloads one."""

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from models.catalog import check_sha256, read_catalog
from models.errors import ModelFileError
from models.folder import ModelsFolder
from models.llm.gguf.files import model_parts
from server.cli.errors import Interrupted, StartError
from server.cli.flags import Commands, add_settings, settings_of
from server.cli.model_import import import_model, pull_model
from server.cli.model_listing import BUILT_IN_FOLDER, find_model, print_models, show_model
from server.settings.settings import Settings

_HOST = "https://huggingface.co"
_SHA256 = re.compile(r"[0-9a-f]{64}")

Action = Callable[[Settings, argparse.Namespace], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _add_action(actions, "list", "list the models here and those that can be downloaded", print_models)
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = _add_action(actions, "show", "show a model's properties", show_model)
    show.add_argument("model", metavar="NAME|FILE")
    show.add_argument("--json", action="store_true", help="print JSON")
    importing = _add_action(actions, "import", "copy a GGUF file into the models folder", import_model)
    importing.add_argument("file", metavar="FILE", type=Path, help="GGUF file; any part of a model in several parts")
    importing.add_argument("--sha256", metavar="HEX", type=_sha256, help="expected SHA-256 of the file")
    pull = _add_action(actions, "pull", "download a model; only this command uses the network", pull_model)
    pull.add_argument("model", metavar="NAME|URL", help="name in the catalog, or URL of a GGUF file")
    pull.add_argument("--sha256", metavar="HEX", type=_sha256, help="expected SHA-256 of the file")
    pull.add_argument("--from", metavar="URL", dest="host", default=_HOST, help=f"download host (default: {_HOST})")
    _add_action(actions, "verify", "compare every model with its recorded SHA-256", _verify)
    remove = _add_action(actions, "rm", "remove an imported or downloaded model", _remove)
    remove.add_argument("model", metavar="NAME|FILE")


def _add_action(actions: Commands, name: str, help: str, run: Action) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help)
    add_settings(parser)
    parser.set_defaults(run=partial(_run, run))
    return parser


def _run(action: Action, options: argparse.Namespace) -> int:
    try:
        action(settings_of(options), options)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; run the same command again to continue") from None
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that cannot be written to
        path = error.filename or settings_of(options).models_folder
        raise StartError(
            f"{path}: {error.strerror or error}; correct that, then run the same command again to continue"
        ) from None
    return 0


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError("a SHA-256 has 64 hexadecimal digits")
    return text.lower()


def _verify(settings: Settings, options: argparse.Namespace) -> None:
    """Print the state of every model. Raises `StartError` when one is altered."""
    folder = ModelsFolder(settings.models_folder)
    entries = folder.entries()
    built_in = {
        BUILT_IN_FOLDER / model.file: model.sha256 for model in read_catalog().chat.values() if not model.source
    }
    imported = {folder.path / name: entry for name, entry in entries.items()}
    checks: dict[Path, Callable[[], None]] = {
        **{path: partial(check_sha256, path, sha256) for path, sha256 in built_in.items()},
        **{path: partial(folder.verify, path, entry) for path, entry in imported.items()},
    }
    num_altered = sum(not _is_unaltered(path, check) for path, check in checks.items())
    for path in folder.files():
        if path.name not in entries:
            print(f"unknown  {path.name}: no SHA-256 is recorded; record it: cloister models import FILE")
    if num_altered:
        raise StartError(
            f"{num_altered} of {len(checks)} models are altered; remove them, and import or pull them again"
        )


def _is_unaltered(path: Path, check: Callable[[], None]) -> bool:
    try:
        check()
    except ModelFileError as error:
        print(f"ALTERED  {path.name}: {error.reason}")
        return False
    print(f"ok       {path.name}")
    return True


def _remove(settings: Settings, options: argparse.Namespace) -> None:
    path, _ = find_model(options.model, settings)
    folder = ModelsFolder(settings.models_folder)
    if path.parent != folder.path:
        raise StartError(f"{path} is not in {folder.path}; only models that were imported or downloaded are removed")
    for part in model_parts(path):
        folder.remove(part.name)
    print(f"Removed: {path}")
