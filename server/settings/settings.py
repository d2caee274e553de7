"""The tree of settings: frozen, with bounds that are checked when it is created. `reading.py` reads it."""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import platformdirs
from msgspec import Meta

from index.params import IndexingParams
from index.types import Collection
from models.encoder.params import EncoderParams
from models.llm.params import EngineParams
from models.logs import LogFormat
from server.access.hosts import host_of
from server.access.origins import is_pattern
from server.errors import SettingsError
from server.settings.params import AuditLevel, ChatModelSettings, FilesParams, RagParams, ResponsesParams

MANUAL = Path(__file__).parents[2] / "docs"  # of a clone of the repository; a wheel has no manual
GROUNDED = "cloister"  # model id for answers from the documents

LogLevel = Annotated[str, Meta(pattern="^(debug|info|warning|error)$")]

_COLLECTION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class AddressSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address of the server, its names, and the web pages that may use it."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    hosts: Annotated[
        list[str], Meta(description="further host names of this server, such as its name in your network")
    ] = []
    origins: Annotated[
        list[str],
        Meta(description="web origins that may send requests: scheme://host:port, or editors for their webviews"),
    ] = []
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0: any free one")] = 8000

    def __post_init__(self) -> None:
        for name in self.hosts:
            if host_of(name) != name.lower():
                raise ValueError(f"hosts: {name!r} is not a host name; leave out the port")
        for origin in self.origins:
            if not is_pattern(origin):
                raise ValueError(f"origins: {origin!r} is not scheme://host, scheme://host:port, scheme://* or editors")


class Settings(AddressSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the server."""

    docs: Annotated[dict[str, str], Meta(description="watched folders: collection name = folder")] = {}
    data: Annotated[
        str | None, Meta(description="folder of the index, keys, uploads and models; unset: the platform's data folder")
    ] = None
    model: Annotated[
        str, Meta(description="default chat model: a name in models, a catalog name or the path of a GGUF file")
    ] = "reader-v1"
    models: Annotated[
        dict[str, ChatModelSettings],
        Meta(description="further chat models by name; a model is loaded when a request names it"),
    ] = {}
    memory_budget_bytes: Annotated[
        int, Meta(ge=0, description="memory of all chat models together, in bytes; 0: four fifths of the machine's")
    ] = 0
    unload_after_s: Annotated[
        float, Meta(ge=0, description="seconds without a request after which a further model is unloaded")
    ] = 600
    embedder: Annotated[str, Meta(description="embedding model: a catalog name or a folder")] = "all-MiniLM-L6-v2"
    reranker: Annotated[
        str | None, Meta(description="cross-encoder that reranks search results: a folder; unset: none")
    ] = None
    cache: Annotated[str | None, Meta(description="folder of converted models; unset: the platform's cache folder")] = (
        None
    )
    log_level: Annotated[LogLevel, Meta(description="lowest level that is logged: debug, info, warning or error")] = (
        "warning"
    )
    log_format: Annotated[LogFormat, Meta(description="format of the log: text or json")] = "text"
    audit: Annotated[
        AuditLevel, Meta(description="requests in the audit log: off, changes (with refused requests) or all")
    ] = "changes"
    tracing: Annotated[
        str, Meta(description="name of an installed OpenTelemetry span exporter, such as otlp; empty: no tracing")
    ] = ""
    engine: EngineParams = EngineParams()
    encoder: EncoderParams = EncoderParams()
    indexing: IndexingParams = IndexingParams()
    rag: RagParams = RagParams()
    files: FilesParams = FilesParams()
    responses: ResponsesParams = ResponsesParams()

    @property
    def data_folder(self) -> Path:
        return Path(self.data or platformdirs.user_data_dir("cloister", appauthor=False)).expanduser().absolute()

    @property
    def cache_folder(self) -> Path:
        return Path(self.cache or platformdirs.user_cache_dir("cloister", appauthor=False)).expanduser().absolute()

    @property
    def models_folder(self) -> Path:
        """The folder for the files of chat models that the catalog names."""
        return self.data_folder / "models"

    def collections(self) -> list[Collection]:
        """Return the watched folders, or the manual if `docs` is empty. Raises `SettingsError`."""
        folders = self.docs or ({"docs": str(MANUAL)} if MANUAL.is_dir() else {})
        return [Collection(name, folder_of(name, folder)) for name, folder in sorted(folders.items())]


def folder_of(name: str, folder: str) -> Path:
    """Return the resolved folder of a collection. Raises `SettingsError` when it cannot be watched."""
    setting = f"docs.{name}"
    if not _COLLECTION_NAME.fullmatch(name):
        raise SettingsError(
            setting, "a collection's name is 1 to 64 of a-z, 0-9, '-' and '_', and begins with a letter or digit"
        )
    root = Path(folder).expanduser().absolute()
    try:
        next(root.iterdir(), None)
    except FileNotFoundError:
        raise SettingsError(setting, f"there is no folder {root}; create it, or name another") from None
    except NotADirectoryError:
        raise SettingsError(setting, f"{root} is a file; name the folder it is in") from None
    except OSError as error:
        raise SettingsError(setting, f"the folder {root} cannot be read: {error.strerror}") from None
    return root.resolve()
