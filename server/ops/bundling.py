"""One archive with all that a machine without a network needs: `cloister bundle`.

    NAME/install.sh             verifies everything, then installs without index and resolver
    NAME/SHA256SUMS             of every other file; SHA256SUMS.sig, if it was signed
    NAME/bundle.json            for which Python and platform it is
    NAME/sbom.cdx.json          every package and model, with licence and hash (CycloneDX 1.6)
    NAME/requirements.txt       every wheel with its hash
    NAME/wheels/, NAME/models/, NAME/licences/
    NAME/cloister/              the program itself, with its manual

The wheels are those of this machine's kind: the same Python, the same platform. llama.cpp is compiled once more, for
any x86-64 machine since 2013: what an installation compiled uses all that its own processor has, and ends on others.
"""

import email
import email.message
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

_ROOT = Path(__file__).parents[2]
_TREE = ("server", "models", "index", "docs", "requirements", "scripts", "pyproject.toml", "README.md", "LICENSE")
_SCRIPTS = ("scripts/serve", "scripts/bootstrap", "scripts/bootstrap.py")  # of the folder scripts, these alone
_INSTALLER = Path(__file__).parent / "install-bundle.sh"
_BUILD_TOOLS = ("pip", "setuptools")  # that the other side needs, too
_COMPILED = "llama-cpp-python"  # no index has a wheel of it
_PORTABLE = "-DGGML_NATIVE=OFF"
_TORCH_WHEELS = "https://download.pytorch.org/whl/cpu/torch/"
_LIBRARY = re.compile(r"\.(?:so(?:\.[0-9.]+)?|dylib|pyd|dll)$")
_LICENCE_NAMES = ("licen", "copying", "notice", "authors")
SUMS = "SHA256SUMS"
SIGNATURE_USE = "cloister-bundle"  # what ssh-keygen's signatures are for

Say = Callable[[str], None]


class BundleError(Exception):
    """One line for the user."""


class Library(NamedTuple):
    """Native code inside a wheel, which has a version and weaknesses of its own."""

    place: str
    sha256: str


class Wheel(NamedTuple):
    path: Path
    name: str
    version: str
    licence: str
    sha256: str
    libraries: list[Library]


def bundle_name() -> str:
    version = importlib.metadata.version("cloister")
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"cloister-{version}-{platform.system().lower()}-{platform.machine()}-{python}"


def build(out: Path, models: Sequence[Path], key: Path | None, work: Path, cache: Path, say: Say) -> None:
    """Writes the archive `out`; `work` is an empty folder that is left filled, `cache` keeps what was compiled.

    Raises `BundleError`, `OSError`.
    """
    root = work / bundle_name()
    root.mkdir()
    say("the program and its manual")
    _copy_tree(root / "cloister")
    shutil.copy2(_INSTALLER, root / "install.sh")
    say("the packages, as wheels; llama.cpp, which has none, is compiled: the first time five minutes on two cores")
    wheels = [read_wheel(path) for path in fetch_wheels(root / "wheels", cache / "portable")]
    pins = "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels)
    (root / "requirements.txt").write_text(pins)
    for wheel in wheels:
        copy_licences(wheel, root / "licences" / wheel.name)
    for model in models:
        say(f"the model {model.name}")
        (root / "models").mkdir(exist_ok=True)
        shutil.copyfile(model, root / "models" / model.name)
    about = {"name": root.name, "python": platform.python_version(), "platform": platform.platform()}
    (root / "bundle.json").write_bytes(_pretty(about))
    (root / "sbom.cdx.json").write_bytes(_pretty(sbom(root.name, wheels, files_of(root))))
    (root / SUMS).write_text(sums(root))
    if key is not None:
        sign(root / SUMS, key)
    say(f"packing {out}")
    pack(root, out)


def _copy_tree(target: Path) -> None:
    def list_ignored(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).resolve().relative_to(_ROOT).as_posix()
        return [
            name
            for name in names
            if name == "__pycache__" or (inside == "scripts" and f"{inside}/{name}" not in _SCRIPTS)
        ]

    target.mkdir()
    for name in _TREE:
        source = _ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=list_ignored)
        elif source.exists():
            shutil.copy2(source, target / name)
    if not (target / "requirements" / "runtime.txt").exists():
        raise BundleError("this installation has no list of its packages; make the bundle in a clone of the repository")


def fetch_wheels(folder: Path, compiled: Path) -> list[Path]:
    """Fetch the wheel of every pinned package. `compiled` is pip's cache of wheels that run on other machines too.

    Raises `BundleError`.
    """
    pins = (_ROOT / "requirements" / "runtime.txt").read_text().splitlines()
    wanted = [line for line in pins if line and not line.startswith("#")]
    wanted += [f"{name}=={importlib.metadata.version(name)}" for name in _BUILD_TOOLS]
    ready = [line for line in wanted if line.partition("==")[0] not in ("torch", _COMPILED)]
    _pip("wheel", "--no-deps", f"--wheel-dir={folder}", *ready)
    own = [line for line in wanted if line.partition("==")[0] == _COMPILED]
    _pip("wheel", "--no-deps", f"--wheel-dir={folder}", f"--cache-dir={compiled}", *own)
    torch = f"torch=={importlib.metadata.version('torch')}"  # with the label of its CPU build
    try:
        _pip("wheel", "--no-deps", f"--wheel-dir={folder}", torch)
    except BundleError:
        _pip("wheel", "--no-deps", f"--wheel-dir={folder}", f"--find-links={_TORCH_WHEELS}", torch)
    return sorted(folder.glob("*.whl"))


def _pip(*arguments: str) -> None:
    environment = {**os.environ, "CMAKE_ARGS": _PORTABLE}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        raise BundleError(f"pip: {errors[-1] if errors else f'it ended with {done.returncode}'}")


def read_wheel(path: Path) -> Wheel:
    name, version = path.name.split("-")[:2]
    with zipfile.ZipFile(path) as archive:
        metadata = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        fields = email.message_from_bytes(archive.read(metadata))
        native = [place for place in archive.namelist() if _LIBRARY.search(place)]
        libraries = [Library(place, hashlib.sha256(archive.read(place)).hexdigest()) for place in native]
    name, version = str(fields["Name"] or name), str(fields["Version"] or version)
    return Wheel(path, name, version, _licence(fields), _sha256(path), libraries)


def _licence(fields: email.message.Message) -> str:
    """An expression of SPDX where there is one; the free text comes last, for some put a whole licence there."""
    classified = [
        str(each).rpartition(" :: ")[2] for each in fields.get_all("Classifier") or () if "License ::" in each
    ]
    named = ", ".join(each for each in classified if each != "OSI Approved")
    short = str(fields["License"] or "").strip().partition("\n")[0][:100]
    return str(fields["License-Expression"] or named or short or "not stated")


def copy_licences(wheel: Wheel, folder: Path) -> None:
    """The texts of all licences in a wheel."""
    with zipfile.ZipFile(wheel.path) as archive:
        for info in archive.infolist():
            name = PurePosixPath(info.filename)
            if not info.is_dir() and name.name.lower().startswith(_LICENCE_NAMES):
                target = folder / "_".join(name.parts[-2:])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(info))


def sbom(name: str, wheels: Iterable[Wheel], files: Mapping[str, Path]) -> dict[str, Any]:
    """A component for each package, with the native code in it, and for each other file: all that the bundle has."""
    packages = [
        {
            "type": "library",
            "bom-ref": f"wheels/{wheel.path.name}",
            "name": wheel.name,
            "version": wheel.version,
            "purl": f"pkg:pypi/{wheel.name.lower().replace('_', '-')}@{wheel.version}",
            "licenses": [{"license": {"name": wheel.licence}}],
            "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
            "components": [
                {
                    "type": "library",
                    "bom-ref": f"wheels/{wheel.path.name}#{library.place}",
                    "name": library.place,
                    "hashes": [{"alg": "SHA-256", "content": library.sha256}],
                }
                for library in wheel.libraries
            ],
        }
        for wheel in wheels
    ]
    refs = {str(package["bom-ref"]) for package in packages}
    others = [
        {
            "type": "machine-learning-model" if path.suffix == ".gguf" else "file",
            "bom-ref": place,
            "name": place,
            "hashes": [{"alg": "SHA-256", "content": _sha256(path)}],
        }
        for place, path in files.items()
        if place not in refs
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": name, "name": name}},
        "components": [*packages, *others],
    }


def files_of(root: Path) -> dict[str, Path]:
    """Return the files by their place in the bundle, in order."""
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return dict(sorted(found.items()))


def sums(root: Path) -> str:
    """Return the checksums of all other files in sha256sum's format."""
    return "".join(f"{_sha256(path)}  {place}\n" for place, path in files_of(root).items() if place != SUMS)


def sign(file: Path, key: Path) -> None:
    """Sign with an SSH key, so that ssh-keygen is enough to verify. Raises `BundleError`."""
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", SIGNATURE_USE, "-f", str(key), str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BundleError("ssh-keygen, which signs, is not installed") from None
    if done.returncode:
        raise BundleError(f"ssh-keygen could not sign: {(done.stderr.strip() or 'no reason told').splitlines()[-1]}")


def pack(root: Path, out: Path) -> None:
    """Pack the files so that the same files give the same archive: in order, without owners, of one time."""
    when = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = when
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    fresh = out.with_name(f"{out.name}.part")
    with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in _in_order(root):
            archive.add(path, path.relative_to(root.parent).as_posix(), recursive=False, filter=plain)
    fresh.replace(out)


def _in_order(folder: Path) -> Iterator[Path]:
    yield folder
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _in_order(path)
        else:
            yield path


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
