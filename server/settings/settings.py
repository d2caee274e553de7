"""One frozen tree of settings: defaults < cloister.toml < CLOISTER_… environment < command line.

Unknown or out-of-range fields are refused with their path and where they came from. The only reader of `os.environ`.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import platformdirs
from msgspec import Meta

from index.ingest.indexer import IndexingParams
from index.search.retriever import DENSE_WEIGHT
from index.types import Collection
from models.catalog import ResolvedChatModel, resolve_chat
from models.encoder.params import Runtime
from models.errors import ModelError
from models.llm.gguf.files import parts_of
from models.llm.params import Adapter, EngineParams
from models.logs import LogFormat
from server.access.hosts import host_of
from server.access.origins import is_pattern
from server.errors import SettingsError
from server.files.service import FilesParams
from server.observability.audit import Level
from server.storage.sqlite.responses import ResponsesParams

PREFIX = "CLOISTER_"
CONFIG_FILE = "cloister.toml"
MANUAL = Path(__file__).parents[2] / "docs"  # in a clone; a wheel has none
GROUNDED = "cloister"  # the model id that asks for an answer from the documents
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


class EncoderParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How questions are embedded, and passages reranked."""

    num_threads: Annotated[
        int, Meta(ge=0, le=1024, description="threads that embed questions and rerank; 0: physical cores")
    ] = 0
    runtime: Annotated[
        Runtime,
        Meta(description="onnx, torch, or auto: onnxruntime for each model it can run, else sentence-transformers"),
    ] = "auto"
    min_dimension: Annotated[
        int,
        Meta(ge=0, description="fewest dimensions a client may cut embeddings to, if the model allows; 0: it does not"),
    ] = 0


class RagParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a grounded question is given."""

    top_k: Annotated[int, Meta(ge=1, le=64, description="passages a question is given")] = 4
    dense_weight: Annotated[
        float, Meta(ge=0, le=1, description="share of meaning in a passage's score; the rest is its words'")
    ] = DENSE_WEIGHT
    memory: Annotated[
        int, Meta(ge=0, description="bytes of disk for the passages that conversations were answered from")
    ] = 64_000_000
    max_passage_chars: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="most characters of a passage, from its best sentence on; 0: whole; unset: the model's"),
    ] = None


class ChatSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further chat model, under a name of your choice."""

    path: Annotated[str, Meta(min_length=1, description="a catalog name or the path of a GGUF")]
    lora: Annotated[
        dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(description="LoRA adapters: path of a GGUF = scale")
    ] = {}
    n_ctx: Annotated[int, Meta(ge=0, le=4_194_304, description="instead of engine.n_ctx; 0: that")] = 0


class ChatModels(NamedTuple):
    """The default first; and those further ones of which the files are not there, by name."""

    found: list[tuple[ResolvedChatModel, EngineParams]]
    missing: dict[str, ModelError]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    docs: Annotated[dict[str, str], Meta(description="collections: name = folder")] = {}
    data: Annotated[str | None, Meta(description="where the index lives; unset: the platform's data folder")] = None
    model: Annotated[
        str, Meta(description="default chat model: one of models, a catalog name or the path of a GGUF")
    ] = "reader-v1"
    models: Annotated[
        dict[str, ChatSettings], Meta(description="further chat models by name, loaded when they are asked for")
    ] = {}
    memory_budget: Annotated[
        int, Meta(ge=0, description="bytes for all chat models together; 0: four fifths of the machine's memory")
    ] = 0
    unload_after_s: Annotated[
        float, Meta(ge=0, description="seconds without a request after which a further model leaves the memory")
    ] = 600
    embedder: Annotated[str, Meta(description="embedding model: a catalog name or a folder")] = "all-MiniLM-L6-v2"
    reranker: Annotated[
        str | None, Meta(description="cross-encoder that orders the passages found: a folder; unset: none")
    ] = None
    cache: Annotated[
        str | None, Meta(description="where converted models are kept; unset: the platform's cache folder")
    ] = None
    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    hosts: Annotated[
        list[str], Meta(description="further names that clients call this server by, such as its name in your network")
    ] = []
    origins: Annotated[
        list[str],
        Meta(description="web pages of other servers that may ask: scheme://host:port, or editors, for their webviews"),
    ] = []
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0: any free one")] = 8000
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    ] = "warning"
    log_format: Annotated[LogFormat, Meta(description="lines for people, text, or for programs, json")] = "text"
    audit: Annotated[
        Level, Meta(description="what is noted of who did what: off, changes (and refusals), or all requests")
    ] = "changes"
    tracing: Annotated[
        str, Meta(description="name of an installed OpenTelemetry exporter of spans, such as otlp; empty: none")
    ] = ""
    engine: EngineParams = EngineParams()
    encoder: EncoderParams = EncoderParams()
    indexing: IndexingParams = IndexingParams()
    rag: RagParams = RagParams()
    files: FilesParams = FilesParams()
    responses: ResponsesParams = ResponsesParams()

    def __post_init__(self) -> None:
        for name in self.hosts:
            if host_of(name) != name.lower():
                raise ValueError(f"hosts: {name!r} is no name of a host; leave out the port")
        for origin in self.origins:
            if not is_pattern(origin):
                raise ValueError(f"origins: {origin!r} is not scheme://host, scheme://host:port, scheme://* or editors")

    @property
    def data_folder(self) -> Path:
        return Path(self.data or platformdirs.user_data_dir("cloister", appauthor=False)).expanduser().absolute()

    @property
    def cache_folder(self) -> Path:
        return Path(self.cache or platformdirs.user_cache_dir("cloister", appauthor=False)).expanduser().absolute()

    @property
    def models_folder(self) -> Path:
        """Where the user puts the files of chat models that the catalog names."""
        return self.data_folder / "models"

    def model_files(self, name: str) -> list[Path]:
        """All files of a chat model. Raises `ModelError`."""
        return parts_of(resolve_chat(name, self.models_folder).path)

    def collections(self) -> list[Collection]:
        """Watched folders; the manual where none is named. Raises `SettingsError` for one that cannot be watched."""
        folders = self.docs or ({"docs": str(MANUAL)} if MANUAL.is_dir() else {})
        return [Collection(name, folder_of(name, folder)) for name, folder in sorted(folders.items())]

    def chat_models(self) -> ChatModels:
        """Raises `SettingsError` for a name that cannot be, `ModelError` when the default's files are not there."""
        folder = self.models_folder
        found = [] if self.model in self.models else [(resolve_chat(self.model, folder), self.engine)]
        missing: dict[str, ModelError] = {}
        for name, chosen in sorted(self.models.items(), key=lambda each: each[0] != self.model):
            _check_name(name)
            try:
                found.append(_chat_model(name, chosen, self.engine, folder))
            except ModelError as error:
                if name == self.model:
                    raise
                missing[name] = error
        default, *others = (*(resolved.name for resolved, _ in found), *missing)
        if _is_reserved(default):
            raise SettingsError("model", f"{default!r} stands for answers from documents; give the file another name")
        if default in others:
            raise SettingsError(f"models.{default}", "the default model has this name already; choose another")
        return ChatModels(found, missing)


def _check_name(name: str) -> None:
    if not _MODEL_NAME.fullmatch(name) or _is_reserved(name):
        raise SettingsError(
            f"models.{name}",
            f"a model's name is 1 to 128 of letters, digits, '.', ':', '/', '-' and '_', not {GROUNDED!r}",
        )


def _chat_model(
    name: str, chosen: ChatSettings, engine: EngineParams, folder: Path
) -> tuple[ResolvedChatModel, EngineParams]:
    adapters = tuple(Adapter(str(Path(path).expanduser().absolute()), scale) for path, scale in chosen.lora.items())
    resolved = msgspec.structs.replace(resolve_chat(chosen.path, folder), name=name, adapters=adapters)
    return resolved, msgspec.structs.replace(engine, n_ctx=chosen.n_ctx or engine.n_ctx)


def _is_reserved(name: str) -> bool:
    """Whether it would read as an id that asks for an answer from documents."""
    return name == GROUNDED or name.startswith((f"{GROUNDED}/", f"{GROUNDED}@"))


def folder_of(name: str, folder: str) -> Path:
    """Where a collection's folder is, for certain. Raises `SettingsError`."""
    where = f"docs.{name}"
    if not _NAME.fullmatch(name):
        raise SettingsError(
            where, "a collection's name is 1 to 64 of a-z, 0-9, '-' and '_', and begins with a letter or digit"
        )
    root = Path(folder).expanduser().absolute()
    try:
        next(root.iterdir(), None)
    except FileNotFoundError:
        raise SettingsError(where, f"there is no folder {root}") from None
    except NotADirectoryError:
        raise SettingsError(where, f"{root} is a file; name the folder it is in") from None
    except OSError as error:
        raise SettingsError(where, f"the folder {root} cannot be read: {error.strerror}") from None
    return root.resolve()


def read_settings(config: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Merges the four layers. `config` must exist when given; otherwise `./cloister.toml` is read if it is there.

    `flags` is shaped like the tree; `None` means not given. Raises `SettingsError`.
    """
    layers = [_from_file(config), _from_environment(environ), _drop_none(flags)]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer)
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None


def docs_from_flags(flags: list[str]) -> dict[str, str] | None:
    """`DIR` or `NAME=DIR`, once or often. The name of `DIR` alone is made from its last part."""
    docs: dict[str, str] = {}
    for flag in flags:
        name, equals, folder = flag.partition("=")
        if not equals:
            name, folder = _name_of(flag), flag
        if name in docs:
            raise SettingsError(
                f"docs.{name}", f"two folders have this name; give one of them another: --docs OTHER={folder}"
            )
        docs[name] = folder
    return docs or None


def _name_of(folder: str) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", Path(folder).expanduser().absolute().name.lower()).strip("-_")[:64]
    return name or "docs"


def _from_file(config: Path | None) -> dict[str, Any]:
    path = config or Path(CONFIG_FILE)
    if config is None and not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError("", f"the settings file {path} cannot be read: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("", f"the settings file {path} is not TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """`CLOISTER_ENGINE__N_CTX=8192` is `engine.n_ctx`."""
    tree: dict[str, Any] = {}
    for key, value in environ.items():
        if key.startswith(PREFIX):
            *parents, leaf = key.removeprefix(PREFIX).lower().split("__")
            node: dict[str, Any] = {leaf: value}
            for parent in reversed(parents):
                node = {parent: node}
            tree = _merge(tree, node)
    return tree


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` wins, field by field; the collections are one field, for a folder that is not named is not meant."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) and key != "docs" else value
        )
    return merged


def _drop_none(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flags.items() if value is not None}


_AT = re.compile(r"^(?P<reason>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")


def _explained(message: str) -> SettingsError:
    """msgspec's sentence as a path and a reason."""
    found = _AT.match(message)
    assert found is not None
    reason, path = found["reason"], found["path"] or ""
    if unknown := _UNKNOWN.fullmatch(reason):
        where = ".".join(filter(None, (path, unknown["field"])))
        return SettingsError(where, "there is no such setting (docs/settings.md lists all)")
    return SettingsError(path, reason.replace("`", ""))
