"""`cloister bundle`: on a machine with a network, one archive for those without."""

import argparse
import tempfile
from pathlib import Path

from models.errors import ModelError
from server.cli.errors import Interrupted, StartError
from server.cli.flags import add_settings, settings_of
from server.cli.progress import format_size
from server.ops.bundling import BundleError, build, bundle_name
from server.resources.chat_models import chat_model_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--out", metavar="FILE", type=Path, help="the archive (default: cloister-….tar, here)")
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        default=[],
        help="a model to take along, as cloister models list names it (again for more; the built-in one always is)",
    )
    parser.add_argument("--sign", metavar="KEY", type=Path, help="an SSH key to sign it with")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    out = (options.out or Path(f"{bundle_name()}.tar")).absolute()
    if not out.parent.is_dir():
        raise StartError(f"there is no folder {out.parent}")
    if options.sign and not options.sign.is_file():
        raise StartError(f"there is no key {options.sign}")
    try:
        settings = settings_of(options)
        models = [part for name in options.model for part in chat_model_files(settings, name)]
        with tempfile.TemporaryDirectory(prefix=".cloister-bundle-", dir=out.parent) as work:
            build(out, models, options.sign, Path(work), settings.cache_folder, _say)
    except (BundleError, ModelError) as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(f"{error.filename or out}: {error.strerror or error}") from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted; nothing was written") from None
    print(f"{out}: {format_size(out.stat().st_size)}")
    if not options.sign:
        print("It is not signed: the other side can only see that nothing was damaged. --sign KEY signs it.")
    return 0


def _say(what: str) -> None:
    print(f"  {what}", flush=True)
