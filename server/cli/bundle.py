"""`cloister bundle`: write one archive to install from on a machine without a network."""

import argparse
import tempfile
from pathlib import Path

from models.errors import ModelError
from server.cli.errors import Interrupted, StartError
from server.cli.flags import add_settings, settings_of
from server.cli.progress import format_size
from server.ops.bundle_files import BundleError
from server.ops.bundling import build_bundle, bundle_name
from server.resources.chat_models import chat_model_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--out", metavar="FILE", type=Path, help="archive to write (default: ./cloister-….tar)")
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        default=[],
        help="further model to include, as cloister models list names it (repeatable)",
    )
    parser.add_argument("--sign", metavar="KEY", type=Path, help="SSH key to sign the archive with")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    out = (options.out or Path(f"{bundle_name()}.tar")).absolute()
    if not out.parent.is_dir():
        raise StartError(f"there is no folder {out.parent}; create it, or name another: --out FILE")
    if options.sign and not options.sign.is_file():
        raise StartError(f"there is no key {options.sign}; create one: ssh-keygen -t ed25519 -f {options.sign}")
    try:
        settings = settings_of(options)
        models = [part for name in options.model for part in chat_model_files(settings, name)]
        with tempfile.TemporaryDirectory(prefix=".cloister-bundle-", dir=out.parent) as work:
            build_bundle(out, models, options.sign, Path(work), settings.cache_folder, _print_step)
    except (BundleError, ModelError) as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(f"{error.filename or out}: {error.strerror or error}") from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted; nothing was written") from None
    print(f"{out}: {format_size(out.stat().st_size)}")
    if not options.sign:
        print("It is not signed, so its receiver can detect damage but not forgery. Sign it: --sign KEY")
    return 0


def _print_step(step: str) -> None:
    print(f"  {step}", flush=True)
