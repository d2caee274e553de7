"""GET /v1/models on the wire: OpenAI's four fields, and sizes under every name that clients look for."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType


class ModelMeta(msgspec.Struct, frozen=True):
    """Model metadata as llama-server returns it. `size` is in bytes; `vocab_type` is llama.cpp's number."""

    n_ctx: int
    n_ctx_train: int
    n_params: int
    size: int
    n_embd: int
    n_vocab: int
    vocab_type: int


class ModelModalities(msgspec.Struct, frozen=True):
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]


class LoadStatus(msgspec.Struct, frozen=True):
    value: Literal["loaded", "loading", "unloaded"]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model.

    `state` is "ready", "not loaded", or the reason why it is not ready. `memory` is the estimated size in bytes once
    loaded. Lengths are in tokens, of a conversation with its answer or of a text to embed; they are 0 for a model whose
    files cannot be read and for an embedding model that is not loaded yet. `status` is there if there are several chat
    models.
    """

    id: str
    created: int
    state: str
    capabilities: tuple[str, ...]
    architecture: ModelModalities
    context_length: int = 0
    context_window: int = 0
    max_model_len: int = 0
    max_output_tokens: int | UnsetType = UNSET
    dimensions: int | UnsetType = UNSET
    memory: int | UnsetType = UNSET
    meta: ModelMeta | UnsetType = UNSET
    status: LoadStatus | UnsetType = UNSET
    owned_by: str = "cloister"
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct, frozen=True):
    data: list[ModelCard]
    object: Literal["list"] = "list"
