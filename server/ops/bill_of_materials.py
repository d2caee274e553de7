"""The software bill of materials of a bundle (CycloneDX 1.6)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from server.ops.bundle_files import sha256_of
from server.ops.wheels import Wheel


def bill_of_materials(name: str, wheels: Iterable[Wheel], files: Mapping[str, Path]) -> dict[str, Any]:
    """Return a component for each package, with the native code in it, and for each other file of the bundle."""
    packages = [_package(wheel) for wheel in wheels]
    refs = {str(package["bom-ref"]) for package in packages}
    others = [_file(path_in_bundle, path) for path_in_bundle, path in files.items() if path_in_bundle not in refs]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": name, "name": name}},
        "components": [*packages, *others],
    }


def _package(wheel: Wheel) -> dict[str, Any]:
    ref = f"wheels/{wheel.path.name}"
    return {
        "type": "library",
        "bom-ref": ref,
        "name": wheel.name,
        "version": wheel.version,
        "purl": f"pkg:pypi/{wheel.name.lower().replace('_', '-')}@{wheel.version}",
        "licenses": [{"license": {"name": wheel.licence}}],
        "hashes": _hashes(wheel.sha256),
        "components": [
            {
                "type": "library",
                "bom-ref": f"{ref}#{library.path}",
                "name": library.path,
                "hashes": _hashes(library.sha256),
            }
            for library in wheel.libraries
        ],
    }


def _file(path_in_bundle: str, path: Path) -> dict[str, Any]:
    return {
        "type": "machine-learning-model" if path.suffix == ".gguf" else "file",
        "bom-ref": path_in_bundle,
        "name": path_in_bundle,
        "hashes": _hashes(sha256_of(path)),
    }


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]
