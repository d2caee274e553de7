"""Models converted for onnxruntime, on disk: `CACHE/SOURCE/` holds the graph, the tokenizer and a manifest.

A conversion is a cache. It is made once, appears whole or not at all, is checked by SHA-256 whenever it is opened,
and is made again when anything about it is odd.
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
_RECIPES: dict[EncoderTask, int] = {"embedding": 1, "reranking": 2}  # count changes to what a conversion says
_DEFINING = {".json", ".txt", ".model", ".safetensors", ".bin"}  # configurations, vocabularies, weights
_OTHER_FORMS = {"onnx", "openvino"}  # folders with the same weights in other formats


class ExportManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversion is of, and what the graph does not say itself.

    `refusal`: why there is no graph; the model is run by sentence-transformers then.
    """

    source: str
    runtime: str
    refusal: str | None = None
    sha256: dict[str, str] = {}  # by file
    precision: Precision = "float32"
    dimension: int = 0
    max_tokens: int = 0
    query_prompt: str = ""
    document_prompt: str = ""
    has_probabilities: bool = False  # of a reranker: scores in 0..1, not logits


def runtime() -> str:
    """What conversions are made with and for. Reads the version without loading the library."""
    return f"onnxruntime {version('onnxruntime')}"


def source_of(path: Path, role: EncoderTask, weights_sha256: str | None = None) -> str:
    """Names a model by all its files that bear on what it computes, 32 hexadecimal digits. Raises `ModelFileError`.

    `weights_sha256`: of `model.safetensors`, when known already.
    """
    weights = path / "model.safetensors"
    if not weights.is_file():
        raise ModelFileError(path, "not a sentence-transformers folder with a model.safetensors")
    digest = hashlib.sha256(f"{role} {_RECIPES[role]}".encode())
    for file in sorted(file for file in path.rglob("*") if file.suffix in _DEFINING and file.is_file()):
        name = file.relative_to(path)
        if name.parts[0] not in _OTHER_FORMS:
            known = weights_sha256 if file == weights else None
            digest.update(f"\n{name.as_posix()} {known or sha256_of(file)}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def fingerprint_of(source: str, precision: Precision) -> str:
    """Names the vector space: vectors of equal fingerprint may be compared."""
    return hashlib.sha256(f"{source} {precision}".encode()).hexdigest()[:16]


def read_manifest(folder: Path, source: str) -> ExportManifest | None:
    """None unless what lies there is whole, unaltered, of this model and of the installed onnxruntime."""
    try:
        digest, _, body = (folder / _MANIFEST).read_bytes().partition(b"\n")
        if digest != _digest(body):
            return None
        manifest = msgspec.json.decode(body, type=ExportManifest)
        is_of_now = (manifest.source, manifest.runtime) == (source, runtime())
        is_whole = all(sha256_of(folder / name) == sha256 for name, sha256 in manifest.sha256.items())
    except (OSError, ModelFileError, msgspec.DecodeError):
        return None
    return manifest if is_of_now and is_whole else None


def write_manifest(folder: Path, manifest: ExportManifest) -> None:
    body = msgspec.json.encode(manifest)
    (folder / _MANIFEST).write_bytes(_digest(body) + b"\n" + body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One converter of a model at a time; waits. The lock is the kernel's: it goes with the process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` when the body ends well. Under `locked` only."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a converter that was killed
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            _sync(file)
        _sync(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
