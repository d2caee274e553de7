"""Build one archive with everything that a machine without a network needs, for `cloister bundle`.

    NAME/install.sh             verifies everything, then installs without a package index and without a resolver
    NAME/SHA256SUMS             checksums of every other file; SHA256SUMS.sig, if it is signed
    NAME/bundle.json            the Python and the platform that it is for
    NAME/sbom.cdx.json          every package and model, with licence and hash (CycloneDX 1.6)
    NAME/requirements.txt       every wheel with its hash
    NAME/wheels/, NAME/models/, NAME/licences/
    NAME/cloister/              the program itself, with its manual

The wheels are for the Python and the platform of this machine. llama.cpp is compiled once more, for any x86-64 machine
since 2013, because the one of an installation uses instructions that other processors may lack.
"""

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from server.ops.bill_of_materials import bill_of_materials
from server.ops.bundle_files import CHECKSUMS_FILE, ROOT, BundleError, bundle_files, checksums, pack, sign
from server.ops.wheels import Wheel, copy_licences, fetch_wheels, read_wheel

_TREE = ("server", "models", "index", "docs", "requirements", "scripts", "pyproject.toml", "README.md", "LICENSE")
_SCRIPTS = ("scripts/serve", "scripts/bootstrap", "scripts/bootstrap.py")  # the only files of scripts/ in a bundle
_INSTALLER = Path(__file__).parent / "install-bundle.sh"

Report = Callable[[str], None]


def bundle_name() -> str:
    """Return the name of a bundle for this Python and platform."""
    version = importlib.metadata.version("cloister")
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"cloister-{version}-{platform.system().lower()}-{platform.machine()}-{python}"


def build_bundle(out: Path, models: Sequence[Path], key: Path | None, work: Path, cache: Path, report: Report) -> None:
    """Write the archive `out`. `report` is called with a line for each step.

    `work` is an empty folder, which the caller deletes; `cache` keeps compiled wheels. Raises `BundleError`, `OSError`.
    """
    root = work / bundle_name()
    root.mkdir()
    report("copying the program and its manual")
    _copy_program(root / "cloister")
    shutil.copy2(_INSTALLER, root / "install.sh")
    report("fetching wheels and compiling llama.cpp, the first time for about five minutes on two cores")
    wheels = [read_wheel(path) for path in fetch_wheels(root / "wheels", cache / "portable")]
    (root / "requirements.txt").write_text("".join(map(_requirement, wheels)))
    for wheel in wheels:
        copy_licences(wheel, root / "licences" / wheel.name)
    for model in models:
        report(f"copying the model {model.name}")
        (root / "models").mkdir(exist_ok=True)
        shutil.copyfile(model, root / "models" / model.name)
    _write_descriptions(root, wheels)
    if key is not None:
        sign(root / CHECKSUMS_FILE, key)
    report(f"packing {out}")
    pack(root, out)


def _copy_program(target: Path) -> None:
    target.mkdir()
    for name in _TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=_list_ignored)
        elif source.exists():
            shutil.copy2(source, target / name)
    if not (target / "requirements" / "runtime.txt").exists():
        raise BundleError("this installation has no list of its packages; make the bundle in a clone of the repository")


def _list_ignored(folder: str, names: list[str]) -> list[str]:
    """Return the names in a folder of the program that are not copied."""
    relative = Path(folder).resolve().relative_to(ROOT).as_posix()
    return [
        name
        for name in names
        if name == "__pycache__" or (relative == "scripts" and f"{relative}/{name}" not in _SCRIPTS)
    ]


def _requirement(wheel: Wheel) -> str:
    return f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n"


def _write_descriptions(root: Path, wheels: Sequence[Wheel]) -> None:
    """Write bundle.json, the bill of materials, and the checksums of all files so far."""
    description = {"name": root.name, "python": platform.python_version(), "platform": platform.platform()}
    (root / "bundle.json").write_bytes(_json(description))
    (root / "sbom.cdx.json").write_bytes(_json(bill_of_materials(root.name, wheels, bundle_files(root))))
    (root / CHECKSUMS_FILE).write_text(checksums(root))


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"
