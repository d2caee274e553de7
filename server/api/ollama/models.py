"""The models there are, as Ollama's clients look for them. Names have a tag, without which some do not find them."""

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
from server.errors import UnknownModel
from server.generation.target import Target, model_ids, resolve_target, untagged
from server.resources.pool import ManagedModel
from server.services import Services

_TAG = ":latest"
_EMBEDDER = OllamaModelDetails(format="onnx", family="bert", families=["bert"])
_INSERTS = "{{- if .Suffix }}{{ .Prompt }}{{ .Suffix }}{{ end }}\n"  # as Ollama has it: Continue looks for it
_FOREVER = datetime(2318, 1, 1, tzinfo=UTC)  # as Ollama says it, about


def list_tags(services: Services) -> OllamaTagList:
    """Those that cannot be used are left out: clients show no reason."""
    return OllamaTagList(list(_tags(services)))


def _tags(services: Services) -> Iterator[OllamaModelTag]:
    for id in model_ids(services):
        try:
            target, model = _found(id, services)
        except ModelUnavailable:
            continue
        yield OllamaModelTag(
            name=_tagged(id),
            model=_tagged(id),
            modified_at=_rfc3339(services.started_at),
            size=model.completion_model.info.size,
            digest=_digest(id, model),
            details=_details(model),
            capabilities=_capabilities(target, model),
        )
    name = services.embeddings.model.name
    if name not in services.pool:
        yield OllamaModelTag(
            name=_tagged(name),
            model=_tagged(name),
            modified_at=_rfc3339(services.started_at),
            size=0,
            digest=hashlib.sha256(f"{name} {services.embeddings.model.sha256}".encode()).hexdigest(),
            details=_EMBEDDER,
            capabilities=["embedding"],
        )


def list_running_models(services: Services) -> OllamaRunningList:
    """The language models that are in memory; a grounded answer uses one of them."""
    return OllamaRunningList([_running(model, services) for model in services.pool if model.is_loaded])


def _running(model: ManagedModel, services: Services) -> OllamaRunningModel:
    left_s = services.pool.keep_s(model) - (0 if model.num_users else time.monotonic() - model.last_used)
    expires = _FOREVER if math.isinf(left_s) else datetime.fromtimestamp(time.time() + max(left_s, 0), UTC)
    return OllamaRunningModel(
        name=_tagged(model.name),
        model=_tagged(model.name),
        size=model.size_bytes,
        size_vram=0,
        digest=_digest(model.name, model),
        details=_details(model),
        expires_at=expires.isoformat(),
        context_length=model.n_ctx,
    )


def describe_model(asked: OllamaModelRequest, services: Services) -> OllamaModelInfo:
    """From the file's header alone: nothing is loaded. Raises `UnknownModel`, `ModelUnavailable`."""
    id = asked.model or asked.name or ""
    if untagged(id) == services.embeddings.model.name and id not in services.pool:
        return _embedder_shown(services)
    target, model = _found(id, services)
    completion_model = model.completion_model
    capabilities = _capabilities(target, model)
    return OllamaModelInfo(
        modelfile=f"FROM {model.name}\n",
        parameters=f"num_ctx {model.n_ctx}\ntemperature {model.resolved.temperature:g}",
        template=(_INSERTS if "insert" in capabilities else "") + completion_model.tokenizer.chat_template,
        details=_details(model),
        model_info=_facts_of(model),
        capabilities=capabilities,
        modified_at=_rfc3339(services.started_at),
        license=completion_model.metadata("general.license") or "",
    )


def _facts_of(model: ManagedModel) -> dict[str, Any]:
    """`context_length` is what a conversation may have here, which may be less than the model was trained for."""
    completion_model, info = model.completion_model, model.completion_model.info
    family = _family(model)
    return {
        "general.architecture": family,
        "general.basename": completion_model.metadata("general.basename") or model.name,
        "general.parameter_count": info.n_params,
        f"{family}.context_length": model.n_ctx,
        f"{family}.embedding_length": info.n_embd,
    }


def _embedder_shown(services: Services) -> OllamaModelInfo:
    """Its numbers once it is loaded."""
    name, family = services.embeddings.model.name, _EMBEDDER.family
    told: dict[str, Any] = {"general.architecture": family, "general.basename": name}
    if services.encoder.is_ready:
        told[f"{family}.context_length"] = services.embeddings.max_tokens
        told[f"{family}.embedding_length"] = services.embeddings.dimension
    return OllamaModelInfo(
        modelfile=f"FROM {name}\n",
        parameters="",
        template="",
        details=_EMBEDDER,
        model_info=told,
        capabilities=["embedding"],
        modified_at=_rfc3339(services.started_at),
        license="",
    )


def _found(id: str, services: Services) -> tuple[Target, ManagedModel]:
    """Raises `UnknownModel`, `ModelUnavailable`."""
    if not id:
        raise UnknownModel("", model_ids(services))
    target = resolve_target(id, services)
    return target, services.pool[target.model]


def _tagged(id: str) -> str:
    return id if ":" in id else id + _TAG


def _digest(id: str, model: ManagedModel) -> str:
    """Of the file where it is known, and of what tells it from others where it is not."""
    info = model.completion_model.info
    told = model.resolved.sha256 or f"{model.name} {info.size} {info.n_params}"
    return hashlib.sha256(f"{id} {told}".encode()).hexdigest()


def _details(model: ManagedModel) -> OllamaModelDetails:
    family = _family(model)
    return OllamaModelDetails(
        family=family,
        families=[family],
        parameter_size=_rounded(model.completion_model.info.n_params),
        quantization_level=quantization_name(model.completion_model.metadata("general.file_type")),
    )


def _family(model: ManagedModel) -> str:
    return model.completion_model.metadata("general.architecture") or "unknown"


def _rounded(count: int) -> str:
    """Such as 1.5B or 22.5M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)


def _capabilities(target: Target, model: ManagedModel) -> list[str]:
    capabilities = model.chat_model.capabilities
    found = {
        "completion": True,
        "tools": True,
        "insert": capabilities.infill and not target.is_grounded,
        "thinking": capabilities.reasoning,
    }
    return [name for name, is_there in found.items() if is_there]


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
