"""Which models there are, by name; a name or a path to the files on this disk. Nothing is fetched here."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from models.errors import ModelFileError, ModelNotFound, ModelNotInstalled
from models.folder import ModelsFolder, sha256_of
from models.llm.gguf.files import name_of, parts_of
from models.llm.params import Adapter

_PACKAGE = Path(__file__).parent


class ChatModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A GGUF. `max_passage_chars` is the most characters of each passage it is given, begun at the best sentence; 0:
    all.

    `extractive`: it is made to quote, so a grounded answer is constrained to sentences of its sources.
    `question_first`: it is told the question before the sources too, and reads them with it in mind. `source` is the
    repository that has the file; without one it ships with this package. The rest is for people who choose: `context`
    in tokens as trained, `parameters`, `bytes` of the file, and of `memory` as estimated at default settings.
    """

    file: str
    sha256: str | None = None
    licence: str | None = None
    temperature: Annotated[float, Meta(ge=0)] = 0.3
    max_passage_chars: Annotated[int, Meta(ge=0)] = 0
    extractive: bool = False
    question_first: bool = False
    source: str | None = None
    context: int | None = None
    parameters: int | None = None
    bytes: int | None = None
    memory: int | None = None
    purpose: str | None = None


class EmbeddingModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sentence-transformers folder; `sha256` is of its `model.safetensors`."""

    package: str | None = None
    folder: str
    sha256: str | None = None
    licence: str | None = None
    chunk_tokens: Annotated[int, Meta(ge=16)] = 128


class RerankModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cross-encoder's folder, as sentence-transformers loads it; `sha256` is of its `model.safetensors`."""

    package: str | None = None
    folder: str
    sha256: str | None = None
    licence: str | None = None


class Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chat: dict[str, ChatModelEntry]
    embedding: dict[str, EmbeddingModel]
    rerank: dict[str, RerankModel] = {}


class ResolvedModel(msgspec.Struct, frozen=True):
    """A model whose files are here: the name shown to clients and where it lies."""

    name: str
    path: Path
    sha256: str | None


class ResolvedChatModel(ResolvedModel, frozen=True):
    temperature: float
    max_passage_chars: int
    extractive: bool
    question_first: bool
    adapters: tuple[Adapter, ...] = ()


class ResolvedEmbeddingModel(ResolvedModel, frozen=True):
    chunk_tokens: int


def read_catalog() -> Catalog:
    return msgspec.convert(tomllib.loads((_PACKAGE / "catalog.toml").read_text()), Catalog)


def resolve_chat(name: str, folder: Path | None = None) -> ResolvedChatModel:
    """By catalog name, else as a path to a GGUF, else as the name of a GGUF in `folder`, the user's models.

    Raises `ModelNotFound`, `ModelNotInstalled`, `ModelFileError`.
    """
    if entry := read_catalog().chat.get(name):
        path = _file_of(name, entry, folder)
        check_sha256(path, entry.sha256)
        _check_imported(path, folder)
        return _as_read(name, path, entry)
    path = _existing_file(name, folder)
    _check_imported(path, folder)
    return _as_read(name_of(path), path.resolve(), ChatModelEntry(file=name))


def _as_read(name: str, path: Path, entry: ChatModelEntry) -> ResolvedChatModel:
    return ResolvedChatModel(
        name, path, entry.sha256, entry.temperature, entry.max_passage_chars, entry.extractive, entry.question_first
    )


def _check_imported(path: Path, folder: Path | None) -> None:
    if folder is not None and path.parent == folder:
        for part in parts_of(path):
            ModelsFolder(folder).check(part)


def _file_of(name: str, entry: ChatModelEntry, folder: Path | None) -> Path:
    if entry.source is None:
        return _PACKAGE / entry.file
    if folder is None or not (folder / entry.file).is_file():
        raise ModelNotInstalled(name, entry.file, entry.source, folder or Path())
    return folder / entry.file


def _existing_file(name: str, folder: Path | None) -> Path:
    try:
        path = _existing(name)
    except ModelNotFound:
        if folder is None or Path(name).name != name:
            raise
        path = folder / name
        if not path.is_file():
            raise
    if not path.is_file():
        what = "this is a folder; name the GGUF file in it" if path.is_dir() else "this is not an ordinary file"
        raise ModelFileError(path, what)
    return path


def resolve_embedding(name: str) -> ResolvedEmbeddingModel:
    """By catalog name, else as a path to a folder. Raises `ModelNotFound`, `ModelFileError`."""
    if entry := read_catalog().embedding.get(name):
        return ResolvedEmbeddingModel(name, _installed(name, entry), entry.sha256, entry.chunk_tokens)
    path = _existing_folder(name)
    return ResolvedEmbeddingModel(path.name, path, None, EmbeddingModel(folder=name).chunk_tokens)


def resolve_reranker(name: str) -> ResolvedModel:
    """By catalog name, else as a path to a folder. Raises `ModelNotFound`, `ModelFileError`."""
    if entry := read_catalog().rerank.get(name):
        return ResolvedModel(name, _installed(name, entry), entry.sha256)
    path = _existing_folder(name)
    return ResolvedModel(path.name, path, None)


def _installed(name: str, entry: EmbeddingModel | RerankModel) -> Path:
    spec = importlib.util.find_spec(entry.package) if entry.package else None
    if spec is None or spec.origin is None:
        raise ModelNotFound(name)
    path = Path(spec.origin).parent / entry.folder
    check_sha256(path / "model.safetensors", entry.sha256)
    return path


def _existing_folder(name: str) -> Path:
    path = _existing(name)
    if not path.is_dir():
        raise ModelNotFound(name)
    return path.resolve()


def _existing(name: str) -> Path:
    try:
        path = Path(name).expanduser()
        if name and path.exists():
            return path
    except (OSError, RuntimeError, ValueError):  # too long, of an unknown user, with a zero character
        pass
    raise ModelNotFound(name)


def check_sha256(path: Path, expected: str | None) -> None:
    """Raises `ModelFileError` unless the file is there and, where a hash is known, is exactly the known one."""
    if expected is not None and (actual := sha256_of(path)) != expected:
        raise ModelFileError(path, f"its SHA-256 is {actual[:12]}…, not {expected[:12]}…: the file was altered or cut")
