"""The wheels of a bundle. pip fetches or builds them; their licences and native libraries are read from them."""

import email
import email.message
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from server.ops.bundle_files import ROOT, BundleError, sha256_of

_BUILD_TOOLS = ("pip", "setuptools")  # an installation from the bundle needs them too
_COMPILED = "llama-cpp-python"  # no package index has a wheel of it
_PORTABLE = "-DGGML_NATIVE=OFF"
_TORCH_WHEELS = "https://download.pytorch.org/whl/cpu/torch/"
_LIBRARY = re.compile(r"\.(?:so(?:\.[0-9.]+)?|dylib|pyd|dll)$")
_LICENCE_NAMES = ("licen", "copying", "notice", "authors")


class Library(NamedTuple):
    """Native code inside a wheel, which has a version and vulnerabilities of its own."""

    path: str
    sha256: str


class Wheel(NamedTuple):
    path: Path
    name: str
    version: str
    licence: str
    sha256: str
    libraries: list[Library]


def fetch_wheels(folder: Path, compiled: Path) -> list[Path]:
    """Fetch or build the wheel of every pinned package, and return their paths in order.

    `compiled` is pip's cache of wheels that run on other machines too. Raises `BundleError`.
    """
    pins = (ROOT / "requirements" / "runtime.txt").read_text().splitlines()
    requirements = [line for line in pins if line and not line.startswith("#")]
    requirements += [f"{name}=={importlib.metadata.version(name)}" for name in _BUILD_TOOLS]
    prebuilt = [line for line in requirements if line.partition("==")[0] not in ("torch", _COMPILED)]
    _pip("wheel", "--no-deps", f"--wheel-dir={folder}", *prebuilt)
    compiled_here = [line for line in requirements if line.partition("==")[0] == _COMPILED]
    _pip("wheel", "--no-deps", f"--wheel-dir={folder}", f"--cache-dir={compiled}", *compiled_here)
    torch = f"torch=={importlib.metadata.version('torch')}"  # with the local version of its CPU build
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
        raise BundleError(f"pip: {errors[-1] if errors else f'exit code {done.returncode}'}")


def read_wheel(path: Path) -> Wheel:
    """Return the properties of a wheel, from its metadata and its native libraries."""
    name, version = path.name.split("-")[:2]
    with zipfile.ZipFile(path) as archive:
        metadata = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        fields = email.message_from_bytes(archive.read(metadata))
        native = [name for name in archive.namelist() if _LIBRARY.search(name)]
        libraries = [Library(name, hashlib.sha256(archive.read(name)).hexdigest()) for name in native]
    name, version = str(fields["Name"] or name), str(fields["Version"] or version)
    return Wheel(path, name, version, _licence(fields), sha256_of(path), libraries)


def _licence(fields: email.message.Message) -> str:
    """Return the SPDX expression if there is one. Free text comes last: some packages put a whole licence there."""
    classifiers = [
        str(each).rpartition(" :: ")[2] for each in fields.get_all("Classifier") or () if "License ::" in each
    ]
    names = ", ".join(each for each in classifiers if each != "OSI Approved")
    first_line = str(fields["License"] or "").strip().partition("\n")[0][:100]
    return str(fields["License-Expression"] or names or first_line or "not stated")


def copy_licences(wheel: Wheel, folder: Path) -> None:
    """Copy the texts of all licences in a wheel to the folder."""
    with zipfile.ZipFile(wheel.path) as archive:
        for info in archive.infolist():
            name = PurePosixPath(info.filename)
            if not info.is_dir() and name.name.lower().startswith(_LICENCE_NAMES):
                target = folder / "_".join(name.parts[-2:])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(info))
