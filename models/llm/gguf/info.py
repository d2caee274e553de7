"""What a GGUF says of the model in it."""

from typing import NamedTuple


class GGUFInfo(NamedTuple):
    """`n_ctx_train`: tokens it was trained for. `size`: bytes of its tensors. `vocab_type`: llama.cpp's number of it.
    `can_insert`: whether it has tokens to fill a gap between two texts."""

    n_ctx_train: int
    n_params: int
    size: int
    n_embd: int
    n_vocab: int
    vocab_type: int
    can_insert: bool
