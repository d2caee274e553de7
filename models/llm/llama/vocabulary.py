"""A model's vocabulary and metadata, read without its weights: all that the server process needs of a GGUF."""

import ctypes
import functools
from pathlib import Path
from typing import Self

import llama_cpp.llama_cpp as C

from models.llm.gguf.estimate import Estimate, estimate
from models.llm.gguf.files import model_parts
from models.llm.gguf.header import numbers_by_layer
from models.llm.gguf.info import FimTokens, GGUFInfo
from models.llm.llama.loading import load_model
from models.llm.params import EngineParams


class Vocabulary:
    """Tokens, chat template and metadata of a GGUF. Owns llama.cpp's model; may be used from any thread."""

    def __init__(self, path: Path) -> None:
        """Raises `ModelFileError` when the file is not a GGUF with a vocabulary."""
        self._model = load_model(path, vocab_only=True)
        self._vocab = C.llama_model_get_vocab(self._model)
        self.path = path
        self.size: int = C.llama_vocab_n_tokens(self._vocab)
        self.end_tokens = frozenset(i for i in range(self.size) if C.llama_vocab_is_eog(self._vocab, i))
        self.adds_bos: bool = C.llama_vocab_get_add_bos(self._vocab)
        self.bos: int = C.llama_vocab_bos(self._vocab)
        self.eos: int = C.llama_vocab_eos(self._vocab)
        self.chat_template = self.metadata("tokenizer.chat_template")
        self.name = self.metadata("general.name") or path.stem

    def metadata(self, key: str) -> str | None:
        """Return a value of the GGUF's header as text; None when the header has no such key."""
        size = C.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        C.llama_model_meta_val_str(self._model, key.encode(), buffer, size + 1)
        return buffer.value.decode(errors="replace")

    def _int_metadata(self, key: str) -> int:
        value = self.metadata(key) or ""
        return int(value) if value.isdigit() else 0

    def estimate(self, params: EngineParams) -> Estimate:
        """Estimate the memory that the model takes once it is loaded; see `models.llm.gguf.estimate`."""
        parts = model_parts(self.path)
        size_bytes = sum(part.stat().st_size for part in parts)
        return estimate(self.metadata, numbers_by_layer(parts[0]), size_bytes, self.size, params)

    @functools.cached_property
    def info(self) -> GGUFInfo:
        family = self.metadata("general.architecture")
        return GGUFInfo(
            n_ctx_train=self._int_metadata(f"{family}.context_length"),
            n_params=C.llama_model_n_params(self._model),
            size=C.llama_model_size(self._model),
            n_embd=self._int_metadata(f"{family}.embedding_length"),
            n_vocab=self.size,
            vocab_type=C.llama_vocab_type(self._vocab),
            can_insert=self.fim is not None,
        )

    @functools.cached_property
    def fim(self) -> FimTokens | None:
        """The fill-in-the-middle tokens; None for a model that was not trained to fill gaps."""
        prefix, suffix, middle, repository, file = (
            None if (token := get(self._vocab)) < 0 else int(token)
            for get in (
                C.llama_vocab_fim_pre,
                C.llama_vocab_fim_suf,
                C.llama_vocab_fim_mid,
                C.llama_vocab_fim_rep,
                C.llama_vocab_fim_sep,
            )
        )
        if prefix is None or suffix is None or middle is None:
            return None
        return FimTokens(prefix, suffix, middle, repository, file)

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool = False) -> list[int]:
        """Return token ids. Names of control tokens in the text become those tokens only with `parse_special`."""
        data = text.encode(errors="replace")
        room = len(data) + 8
        while True:
            buffer = (C.llama_token * room)()
            count = C.llama_tokenize(self._vocab, data, len(data), buffer, room, add_bos, parse_special)
            if count >= 0:
                return buffer[:count]
            room = -count

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes of a token, perhaps part of a character. Control tokens are empty unless `special`."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = C.llama_token_to_piece(self._vocab, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def close(self) -> None:
        """Free the model. Idempotent."""
        if self._model:
            C.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
