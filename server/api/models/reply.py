"""The models and their properties."""

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET, UnsetType

from models.errors import ModelUnavailable
from server.api.models.wire import LoadStatus, ModelCard, ModelMeta, ModelModalities
from server.api.shared.capabilities import capability_names
from server.errors import UnknownModel
from server.generation.target import model_ids, resolve_target
from server.resources.model_source import ModelSource
from server.services import Services

_CHAT_MODALITIES = ModelModalities(("text",), ("text",))
_EMBEDDING_MODALITIES = ModelModalities(("text",), ("embeddings",))
_RERANKING_MODALITIES = ModelModalities(("text",), ("scores",))


def list_model_cards(services: Services) -> list[ModelCard]:
    """Return the models, the default first, embedding and reranking models last."""
    return [*(_chat_card(id, services) for id in model_ids(services)), *_encoder_cards(services)]


def model_card(id: str, services: Services) -> ModelCard:
    """Return one model. Raises `UnknownModel`."""
    try:
        return _chat_card(id, services)
    except UnknownModel:
        for encoder in _encoder_cards(services):
            if encoder.id == id:
                return encoder
        raise


def _chat_card(id: str, services: Services) -> ModelCard:
    """Return the card of a chat model's id. Raises `UnknownModel`."""
    target = resolve_target(id, services)
    created, status = services.started_at, _status(None, services)
    try:
        model = services.pool[target.model]
    except ModelUnavailable as error:
        state = f"not available: {error.reason}"
        return ModelCard(
            id=id, created=created, state=state, capabilities=(), architecture=_CHAT_MODALITIES, status=status
        )
    return ModelCard(
        id=id,
        created=created,
        state=model.state,
        capabilities=capability_names(model.chat_model.capabilities, is_grounded=target.is_grounded),
        architecture=_CHAT_MODALITIES,
        context_length=model.n_ctx,
        context_window=model.n_ctx,
        max_model_len=model.n_ctx,
        max_output_tokens=model.n_ctx,
        memory=model.memory_bytes,
        meta=_meta(model),
        status=_status(model, services),
    )


def _meta(model: ModelSource) -> ModelMeta | UnsetType:
    """Return what the header of the model's file says; UNSET without a file here."""
    if model.completion_model is None:
        return UNSET
    info = model.completion_model.info
    return ModelMeta(
        n_ctx=model.n_ctx,
        n_ctx_train=info.n_ctx_train,
        n_params=info.n_params,
        size=info.size,
        n_embd=info.n_embd,
        n_vocab=info.n_vocab,
        vocab_type=info.vocab_type,
    )


def _status(model: ModelSource | None, services: Services) -> LoadStatus | UnsetType:
    """Return whether the model is loaded; UNSET with a single chat model. Clients that see it request properties by
    model name."""
    if len(list(services.pool)) + len(services.pool.missing) < 2:
        return UNSET
    if model is None or not model.is_loaded:
        return LoadStatus("unloaded")
    return LoadStatus("loaded" if model.is_ready else "loading")


def _encoder_cards(services: Services) -> Iterator[ModelCard]:
    encoder = services.encoder
    ready = encoder.current().ready if encoder.is_ready else None
    length, dimensions = (ready.max_tokens, ready.dimension) if ready else (0, UNSET)
    shared: dict[str, Any] = {"created": services.started_at, "state": encoder.state}
    name = services.embeddings.model.name
    if name not in services.pool:
        yield ModelCard(
            id=name,
            capabilities=("embedding", "rerank"),
            architecture=_EMBEDDING_MODALITIES,
            context_length=length,
            context_window=length,
            max_model_len=length,
            dimensions=dimensions,
            **shared,
        )
    reranker = services.reranking.reranker
    if reranker is not None and reranker.name not in services.pool:
        yield ModelCard(id=reranker.name, capabilities=("rerank",), architecture=_RERANKING_MODALITIES, **shared)
