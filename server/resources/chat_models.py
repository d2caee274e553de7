"""The chat models that the settings name: resolved to files on this disk, and opened as sources for the pool."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from models.catalog import ResolvedChatModel, resolve_chat
from models.errors import ModelError
from models.llm.gguf.files import model_parts
from models.llm.params import Adapter, EngineParams
from server.errors import SettingsError
from server.resources.model_source import ModelSource
from server.settings.params import ChatModelSettings
from server.settings.settings import GROUNDED, Settings

if TYPE_CHECKING:
    from server.resources.local_model import OpenEngine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


class ConfiguredModel(NamedTuple):
    """A chat model whose files are here, and how to run it."""

    resolved: ResolvedChatModel
    params: EngineParams

    @property
    def name(self) -> str:
        return self.resolved.name

    def open(self, open_engine: "OpenEngine") -> ModelSource:
        """Return its source, which the caller closes. Raises `ModelFileError`, `TemplateError`."""
        from server.resources.local_model import LocalModelSource  # loads llama.cpp; looking for files does not need it

        return LocalModelSource(self.resolved, self.params, open_engine)


class ChatModels(NamedTuple):
    """The default model comes first. `missing`: by name, why a further model cannot be run."""

    configured: list[ConfiguredModel]
    missing: dict[str, ModelError]


def resolve_chat_models(settings: Settings) -> ChatModels:
    """Resolve the default chat model and all further ones.

    Raises `SettingsError` for a name that is not allowed, `ModelError` when the default's files are not there.
    """
    configured: list[ConfiguredModel] = []
    if settings.model not in settings.models:
        configured.append(ConfiguredModel(_resolve(settings.model, settings), settings.engine))
    missing: dict[str, ModelError] = {}
    for name, model in sorted(settings.models.items(), key=lambda item: item[0] != settings.model):
        _check_name(name)
        try:
            configured.append(_resolve_further(name, model, settings))
        except ModelError as error:
            if name == settings.model:
                raise
            missing[name] = error
    default, *others = (*(model.name for model in configured), *missing)
    if _is_reserved(default):
        raise SettingsError("model", f"{default!r} stands for answers from documents; give the file another name")
    if default in others:
        raise SettingsError(f"models.{default}", "the default model has this name already; choose another")
    return ChatModels(configured, missing)


def chat_model_files(settings: Settings, name: str) -> list[Path]:
    """Return all files of a chat model. Raises `ModelError`."""
    return model_parts(resolve_chat(name, settings.models_folder).path)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or _is_reserved(name):
        raise SettingsError(
            f"models.{name}",
            f"a model's name is 1 to 128 of letters, digits, '.', ':', '/', '-' and '_', not {GROUNDED!r}",
        )


def _resolve(name: str, settings: Settings) -> ResolvedChatModel:
    resolved = resolve_chat(name, settings.models_folder)
    if settings.rag.max_passage_chars is None:
        return resolved
    return msgspec.structs.replace(resolved, max_passage_chars=settings.rag.max_passage_chars)


def _resolve_further(name: str, model: ChatModelSettings, settings: Settings) -> ConfiguredModel:
    adapters = tuple(Adapter(str(Path(path).expanduser().absolute()), scale) for path, scale in model.lora.items())
    resolved = msgspec.structs.replace(_resolve(model.path, settings), name=name, adapters=adapters)
    params = msgspec.structs.replace(settings.engine, n_ctx=model.n_ctx or settings.engine.n_ctx)
    return ConfiguredModel(resolved, params)


def _is_reserved(name: str) -> bool:
    """Return whether clients could take the name for a model id that asks for an answer from the documents."""
    return name == GROUNDED or name.startswith((f"{GROUNDED}/", f"{GROUNDED}@"))
