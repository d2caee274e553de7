"""The models as Ollama's clients list them. Names have a tag, without which some clients do not find them."""

import hashlib
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from models.errors import ModelUnavailable
from models.llm.gguf.file_type import quantization_name
from server.api.ollama.wire import (
    OllamaModelDetails,
    OllamaModelInfo,
    OllamaModelRequest,
    OllamaModelTag,
    OllamaRunningList,
    OllamaRunningModel,
    OllamaTagList,
)
from server.api.shared.capabilities import capability_names
from server.errors import UnknownModel
from server.generation.target import Target, model_ids, resolve_target, without_tag
from server.resources.model_source import ModelSource
from server.services import Services

_TAG = ":latest"
_EMBEDDER = OllamaModelDetails(format="onnx", family="bert", families=["bert"])
_INSERTS = (
    "{{- if .Suffix }}{{ .Prompt }}{{ .Suffix }}{{ end }}\n"  # Continue looks for this text of Ollama's templates
)
_FOREVER = datetime(2318, 1, 1, tzinfo=UTC)  # roughly what Ollama says


def list_tags(services: Services) -> OllamaTagList:
    """Return the models that can be used; clients have no place to show why another cannot."""
    return OllamaTagList(list(_tags(services)))


def _tags(services: Services) -> Iterator[OllamaModelTag]:
    for id in model_ids(services):
        try:
            target, model = _find(id, services)
        except ModelUnavailable:
            continue
        yield OllamaModelTag(
            name=_with_tag(id),
            model=_with_tag(id),
            modified_at=_rfc3339(services.started_at),
            size=_file_bytes(model),
            digest=_digest(id, model),
            details=_details(model),
            capabilities=_capabilities(target, model),
        )
    name = services.embeddings.model.name
    if name not in services.pool:
        yield OllamaModelTag(
            name=_with_tag(name),
            model=_with_tag(name),
            modified_at=_rfc3339(services.started_at),
            size=0,
            digest=hashlib.sha256(f"{name} {services.embeddings.model.sha256}".encode()).hexdigest(),
            details=_EMBEDDER,
            capabilities=["embedding"],
        )


def list_running_models(services: Services) -> OllamaRunningList:
    """Return the chat models that are loaded."""
    return OllamaRunningList([_running(model, services) for model in services.pool if model.is_loaded])


def _running(model: ModelSource, services: Services) -> OllamaRunningModel:
    left_s = services.pool.expires_in_s(model)
    expires = _FOREVER if math.isinf(left_s) else datetime.fromtimestamp(time.time() + left_s, UTC)
    return OllamaRunningModel(
        name=_with_tag(model.name),
        model=_with_tag(model.name),
        size=model.memory_bytes,
        size_vram=0,
        digest=_digest(model.name, model),
        details=_details(model),
        expires_at=expires.isoformat(),
        context_length=model.n_ctx,
    )


def describe_model(data: OllamaModelRequest, services: Services) -> OllamaModelInfo:
    """Return what a model's file header says; nothing is loaded. Raises `UnknownModel`, `ModelUnavailable`."""
    id = data.model or data.name or ""
    if without_tag(id) == services.embeddings.model.name and id not in services.pool:
        return _describe_embedder(services)
    target, model = _find(id, services)
    template = model.completion_model.tokenizer.chat_template if model.completion_model else ""
    capabilities = _capabilities(target, model)
    return OllamaModelInfo(
        modelfile=f"FROM {model.name}\n",
        parameters=f"num_ctx {model.n_ctx}\ntemperature {model.profile.temperature:g}",
        template=(_INSERTS if "insert" in capabilities else "") + template,
        details=_details(model),
        model_info=_facts_of(model),
        capabilities=capabilities,
        modified_at=_rfc3339(services.started_at),
        license=_metadata(model, "general.license") or "",
    )


def _facts_of(model: ModelSource) -> dict[str, Any]:
    """Return the model's GGUF fields. `context_length` is the server's, which may be less than the model's own."""
    family, info = _family(model), model.completion_model.info if model.completion_model else None
    facts = {
        "general.architecture": family,
        "general.basename": _metadata(model, "general.basename") or model.name,
        "general.parameter_count": info and info.n_params,
        f"{family}.context_length": model.n_ctx,
        f"{family}.embedding_length": info and info.n_embd,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _describe_embedder(services: Services) -> OllamaModelInfo:
    """Return the embedding model's description, with its sizes once it is loaded."""
    name, family = services.embeddings.model.name, _EMBEDDER.family
    fields: dict[str, Any] = {"general.architecture": family, "general.basename": name}
    if services.encoder.is_ready:
        fields[f"{family}.context_length"] = services.embeddings.max_tokens
        fields[f"{family}.embedding_length"] = services.embeddings.dimension
    return OllamaModelInfo(
        modelfile=f"FROM {name}\n",
        parameters="",
        template="",
        details=_EMBEDDER,
        model_info=fields,
        capabilities=["embedding"],
        modified_at=_rfc3339(services.started_at),
        license="",
    )


def _find(id: str, services: Services) -> tuple[Target, ModelSource]:
    """Return what the id asks for, and its model. Raises `UnknownModel`, `ModelUnavailable`."""
    if not id:
        raise UnknownModel("", model_ids(services))
    target = resolve_target(id, services)
    return target, services.pool[target.model]


def _with_tag(id: str) -> str:
    return id if ":" in id else id + _TAG


def _digest(id: str, model: ModelSource) -> str:
    """Return a digest of the file's hash, or, if that is unknown, of what tells the model from others."""
    info = model.completion_model.info if model.completion_model else None
    fields = model.profile.sha256 or (f"{model.name} {info.size} {info.n_params}" if info else model.name)
    return hashlib.sha256(f"{id} {fields}".encode()).hexdigest()


def _details(model: ModelSource) -> OllamaModelDetails:
    family = _family(model)
    return OllamaModelDetails(
        family=family,
        families=[family],
        parameter_size=_format_count(model.completion_model.info.n_params) if model.completion_model else "",
        quantization_level=quantization_name(_metadata(model, "general.file_type")),
    )


def _family(model: ModelSource) -> str:
    return _metadata(model, "general.architecture") or "unknown"


def _metadata(model: ModelSource, key: str) -> str | None:
    return model.completion_model.metadata(key) if model.completion_model else None


def _file_bytes(model: ModelSource) -> int:
    return model.completion_model.info.size if model.completion_model else 0


def _format_count(count: int) -> str:
    """Return a count such as 1.5B or 22.5M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)


def _capabilities(target: Target, model: ModelSource) -> list[str]:
    return list(capability_names(model.chat_model.capabilities, is_grounded=target.is_grounded))


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
