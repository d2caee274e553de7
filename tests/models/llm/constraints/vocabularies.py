"""Real vocabularies for the tests of constraints, and whether a constraint allows a text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from models.catalog import resolve_chat
from models.llm.constraints.forms import (
    ConstraintForm,
    JsonSchema,
)
from models.llm.constraints.grammar import Grammar
from models.llm.constraints.grammar_tokenizer import GrammarTokenizer
from models.llm.llama.vocabulary import Vocabulary

BUILTIN = resolve_chat("reader-v1").path
SHARED = Path(__file__).parents[5] / "shared" / "vocab"
PATHS = [BUILTIN, *(SHARED / f"ggml-vocab-{name}.gguf" for name in ("qwen2", "llama-bpe", "llama-spm"))]
CLOSERS = ['"', "}", "]", ",", ", ", '"}', '"]', '",', ', "', '", "']


class Model(NamedTuple):
    vocabulary: Vocabulary
    tokenizer: GrammarTokenizer
    ends: set[int]
    closers: np.ndarray  # tokens that bring an answer nearer to its end

    def text(self, tokens: list[int]) -> str:
        return b"".join(map(self.vocabulary.piece, tokens)).decode()

    def is_text(self, tokens: list[int]) -> bool:
        return all(map(self.vocabulary.piece, tokens))  # control tokens have none

    def token(self, name: str) -> int:
        [token] = self.vocabulary.tokenize(name, parse_special=True)
        return token


def load_model(path: Path) -> Iterator[Model]:
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with Vocabulary(path) as vocabulary:
        tokenizer = GrammarTokenizer(vocabulary)
        closers = [tokens[0] for text in CLOSERS if len(tokens := tokenizer.llguidance.greedy_tokenize(text)) == 1]
        yield Model(vocabulary, tokenizer, set(vocabulary.end_tokens), np.array(closers))


def schema(value: object) -> JsonSchema:
    return JsonSchema(json.dumps(value))


def allows(model: Model, constraint: ConstraintForm, text: str) -> bool:
    """Return whether the grammar allows the whole text as an answer, in whatever tokens."""
    grammar, generated, rest = Grammar(model.tokenizer, constraint), [], text.encode()
    while True:
        allowed = grammar.after(generated).tolist()
        if not rest:
            return not model.ends.isdisjoint(allowed)
        pieces = {model.vocabulary.piece(token): token for token in allowed}
        fits = [piece for piece in pieces if piece and rest.startswith(piece)]
        if not fits:
            return False
        piece = max(fits, key=len)
        generated.append(pieces[piece])
        rest = rest[len(piece) :]
