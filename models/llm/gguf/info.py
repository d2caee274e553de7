"""Figures and special tokens of a model, as read from its GGUF."""

from typing import NamedTuple


class GGUFInfo(NamedTuple):
    """Figures from a GGUF's header and vocabulary.

    `n_ctx_train`: tokens it was trained for. `size`: bytes of its tensors. `vocab_type`: `llama_vocab_type`.
    `can_insert`: whether it has fill-in-the-middle tokens.
    """

    n_ctx_train: int
    n_params: int
    size: int
    n_embd: int
    n_vocab: int
    vocab_type: int
    can_insert: bool


class FimTokens(NamedTuple):
    """Fill-in-the-middle token ids. `repository` and `file` are None in vocabularies that know one file only."""

    prefix: int
    suffix: int
    middle: int
    repository: int | None = None
    file: int | None = None
