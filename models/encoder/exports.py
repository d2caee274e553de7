"""Models converted for onnxruntime, on disk: `CACHE/SOURCE/` holds the graph, the tokenizer and a manifest.

A conversion is a cache. It is made once, appears whole or not at all, is checked by SHA-256 whenever it is opened, and
is made again when any check fails.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec

from models.errors import ModelFileError
from models.folder import sha256_of

EncoderTask = Literal["embedding", "reranking"]
Precision = Literal["int8", "float32"]

GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
_MANIFEST = "manifest"
_VERSIONS: dict[EncoderTask, int] = {"embedding": 1, "reranking": 2}  # raised when a conversion's output changes
_MODEL_SUFFIXES = {".json", ".txt", ".model", ".safetensors", ".bin"}  # configurations, vocabularies, weights
_OTHER_FORMATS = {"onnx", "openvino"}  # folders with the same weights in other formats


class ExportManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of a conversion: the model it is of, and what the graph itself does not hold.

    `source`: from `source_of`. `refusal`: why there is no graph; the model then runs on sentence-transformers.
    """

    source: str
    runtime: str
    refusal: str | None = None
    sha256: dict[str, str] = {}  # by file name
    precision: Precision = "float32"
    dimension: int = 0
    max_tokens: int = 0
    query_prompt: str = ""
    document_prompt: str = ""
    has_probabilities: bool = False  # a reranker's scores lie in 0..1; otherwise they are logits


def runtime() -> str:
    """Return the runtime that conversions are made for. Reads its version without importing it."""
    return f"onnxruntime {version('onnxruntime')}"


def source_of(path: Path, task: EncoderTask, weights_sha256: str | None = None) -> str:
    """Return 32 hexadecimal digits that name a model by all its files that bear on its output.

    `weights_sha256`: of `model.safetensors`, when it is known already. Raises `ModelFileError`.
    """
    weights = path / "model.safetensors"
    if not weights.is_file():
        raise ModelFileError(path, "not a sentence-transformers folder with a model.safetensors")
    digest = hashlib.sha256(f"{task} {_VERSIONS[task]}".encode())
    for file in sorted(file for file in path.rglob("*") if file.suffix in _MODEL_SUFFIXES and file.is_file()):
        name = file.relative_to(path)
        if name.parts[0] not in _OTHER_FORMATS:
            known_sha256 = weights_sha256 if file == weights else None
            digest.update(f"\n{name.as_posix()} {known_sha256 or sha256_of(file)}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def fingerprint_of(source: str, precision: Precision) -> str:
    """Return the name of a vector space: vectors of equal fingerprint may be compared."""
    return hashlib.sha256(f"{source} {precision}".encode()).hexdigest()[:16]


def read_manifest(folder: Path, source: str) -> ExportManifest | None:
    """Return the manifest of a conversion that is whole, of this model and for the installed onnxruntime; else None."""
    try:
        digest, _, body = (folder / _MANIFEST).read_bytes().partition(b"\n")
        if digest != _digest(body):
            return None
        manifest = msgspec.json.decode(body, type=ExportManifest)
        is_current = (manifest.source, manifest.runtime) == (source, runtime())
        is_whole = all(sha256_of(folder / name) == sha256 for name, sha256 in manifest.sha256.items())
    except (OSError, ModelFileError, msgspec.DecodeError):
        return None
    return manifest if is_current and is_whole else None


def require_manifest(folder: Path, source: str) -> ExportManifest:
    """Return the manifest of a conversion that can be loaded. Raises `ModelFileError`."""
    manifest = read_manifest(folder, source)
    if manifest is None or manifest.refusal is not None:
        raise ModelFileError(folder, "the converted model was altered or removed")
    return manifest


def write_manifest(folder: Path, manifest: ExportManifest) -> None:
    body = msgspec.json.encode(manifest)
    (folder / _MANIFEST).write_bytes(_digest(body) + b"\n" + body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


@contextlib.contextmanager
def lock_export(folder: Path) -> Iterator[None]:
    """Hold the lock of one conversion, waiting for other converters. The kernel frees it when the process ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replace_export(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` when the body succeeds. The caller holds `lock_export`."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a converter that was killed
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            _fsync(file)
        _fsync(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
