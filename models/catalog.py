"""The catalog of models, and how a model's name or path is resolved to its files. Nothing is fetched here."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from models.errors import ModelFileError, ModelNotFound, ModelNotInstalled
from models.folder import ModelsFolder, sha256_of
from models.llm.gguf.files import model_name, model_parts
from models.llm.params import Adapter

_PACKAGE = Path(__file__).parent


class ChatModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chat model: a GGUF file.

    `max_passage_chars`: characters of each passage that it is given, from the best sentence on; 0: whole passages.
    `extractive`: it was trained to quote, so a grounded answer is constrained to sentences of its sources.
    `question_first`: the question stands before the sources too. `source`: the repository that has the file; without
    one the file ships with this package. The rest helps people choose: `context` in tokens as trained, `parameters`,
    `bytes` of the file, and bytes of `memory` as estimated at default settings.
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


class EmbeddingModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An embedding model: a sentence-transformers folder. `sha256`: of its `model.safetensors`."""

    package: str | None = None
    folder: str
    sha256: str | None = None
    licence: str | None = None
    chunk_tokens: Annotated[int, Meta(ge=16)] = 128


class RerankerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reranker: a cross-encoder's folder, as sentence-transformers loads it. `sha256`: of its `model.safetensors`."""

    package: str | None = None
    folder: str
    sha256: str | None = None
    licence: str | None = None


class ModelCatalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The models that are known by name."""

    chat: dict[str, ChatModelEntry]
    embedding: dict[str, EmbeddingModelEntry]
    rerank: dict[str, RerankerEntry] = {}


class ResolvedModel(msgspec.Struct, frozen=True):
    """A model whose files are on this disk. `name` is shown to clients."""

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


def read_catalog() -> ModelCatalog:
    return msgspec.convert(tomllib.loads((_PACKAGE / "catalog.toml").read_text()), ModelCatalog)


def resolve_chat(name: str, folder: Path | None = None) -> ResolvedChatModel:
    """Resolve a catalog name, or a path to a GGUF, or the name of a GGUF in `folder`, the user's models; in that order.

    Raises `ModelNotFound`, `ModelNotInstalled`, `ModelFileError`.
    """
    if entry := read_catalog().chat.get(name):
        path = _catalog_file(name, entry, folder)
        check_sha256(path, entry.sha256)
        _check_imported(path, folder)
        return _resolved_chat(name, path, entry)
    path = _existing_file(name, folder)
    _check_imported(path, folder)
    return _resolved_chat(model_name(path), path.resolve(), ChatModelEntry(file=name))


def _resolved_chat(name: str, path: Path, entry: ChatModelEntry) -> ResolvedChatModel:
    return ResolvedChatModel(
        name=name,
        path=path,
        sha256=entry.sha256,
        temperature=entry.temperature,
        max_passage_chars=entry.max_passage_chars,
        extractive=entry.extractive,
        question_first=entry.question_first,
    )


def _check_imported(path: Path, folder: Path | None) -> None:
    """Check the files of a model in the models folder. Raises `ModelFileError` when one is not the imported file."""
    if folder is not None and path.parent == folder:
        for part in model_parts(path):
            ModelsFolder(folder).check(part)


def _catalog_file(name: str, entry: ChatModelEntry, folder: Path | None) -> Path:
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
        reason = "this is a folder; name the GGUF file in it" if path.is_dir() else "this is not an ordinary file"
        raise ModelFileError(path, reason)
    return path


def resolve_embedding(name: str) -> ResolvedEmbeddingModel:
    """Resolve a catalog name, or a path to a folder. Raises `ModelNotFound`, `ModelFileError`."""
    if entry := read_catalog().embedding.get(name):
        return ResolvedEmbeddingModel(name, _package_folder(name, entry), entry.sha256, entry.chunk_tokens)
    path = _existing_folder(name)
    return ResolvedEmbeddingModel(path.name, path, None, EmbeddingModelEntry(folder=name).chunk_tokens)


def resolve_reranker(name: str) -> ResolvedModel:
    """Resolve a catalog name, or a path to a folder. Raises `ModelNotFound`, `ModelFileError`."""
    if entry := read_catalog().rerank.get(name):
        return ResolvedModel(name, _package_folder(name, entry), entry.sha256)
    path = _existing_folder(name)
    return ResolvedModel(path.name, path, None)


def _package_folder(name: str, entry: EmbeddingModelEntry | RerankerEntry) -> Path:
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
    """Return the path if there is such a file or folder. Raises `ModelNotFound`."""
    try:
        path = Path(name).expanduser()
        if name and path.exists():
            return path
    except (OSError, RuntimeError, ValueError):  # a name that is too long, of an unknown user, or with a zero character
        pass
    raise ModelNotFound(name)


def check_sha256(path: Path, expected: str | None) -> None:
    """Raise `ModelFileError` unless the file has the expected hash; None: any content will do."""
    if expected is not None and (actual := sha256_of(path)) != expected:
        raise ModelFileError(path, f"its SHA-256 is {actual[:12]}…, not {expected[:12]}…: the file was altered or cut")
