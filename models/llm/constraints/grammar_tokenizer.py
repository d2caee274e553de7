"""The adapter of a model's vocabulary for llguidance."""

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from models.errors import GrammarError

_MAX_FORCED = 1024  # bytes tokenized ahead
_MAX_TOKEN = 64  # bytes; without the cut at `_MAX_FORCED`, tokens of its last bytes could be others


class GrammarVocabulary(Protocol):
    """The part of `models.llm.llama.vocabulary.Vocabulary` that grammars need."""

    @property
    def size(self) -> int: ...
    @property
    def end_tokens(self) -> Collection[int]: ...
    def piece(self, token: int, *, special: bool = False) -> bytes: ...
    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...


class _TokenizerAdapter:
    """A vocabulary as llguidance's `TokenizerWrapper` expects it, which calls it to tokenize forced text.

    llguidance relies on a call raising nothing and on its tokens having exactly the given bytes.
    """

    def __init__(self, vocabulary: GrammarVocabulary, end_token: int) -> None:
        self._tokenize = vocabulary.tokenize
        self.tokens = [vocabulary.piece(token) for token in range(vocabulary.size)]
        self.special_token_ids = [token for token, piece in enumerate(self.tokens) if not piece]
        for token in self.special_token_ids:
            self.tokens[token] = vocabulary.piece(token, special=True)
        self.eos_token_id = end_token
        self.bos_token_id = None
        self.greedy: Callable[[str], list[int]] | None = None
        self._lead = ""  # a SentencePiece vocabulary puts its space in front of this instead of the text
        if self._bytes(vocabulary.tokenize("a", parse_special=False)) != b"a":
            self._lead = "\x02"
        self._num_lead = len(self._tokenize(self._lead, parse_special=False))

    def __call__(self, data: bytes) -> list[int]:
        text = data[:_MAX_FORCED].decode(errors="ignore")
        tokens = self._tokenize(self._lead + text, parse_special=False)[self._num_lead :]
        if self._bytes(tokens) != text.encode() and self.greedy:
            tokens = self.greedy(text)
        num_cut = 0
        while len(data) > _MAX_FORCED and num_cut < _MAX_TOKEN and len(tokens) > 1:
            num_cut += len(self.tokens[tokens.pop()])
        return tokens

    def _bytes(self, tokens: list[int]) -> bytes:
        return b"".join([self.tokens[token] for token in tokens])


class GrammarTokenizer:
    """A vocabulary prepared for grammars, once for each loaded model: about a second for 150,000 tokens.

    The vocabulary must stay open as long as this or a `Grammar` made with it is used.
    """

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        """Prepare the vocabulary. Raises `GrammarError` if it has no end token: no answer could be complete."""
        if not vocabulary.end_tokens:
            raise GrammarError("the model's vocabulary has no token that ends an answer")
        ends = sorted(vocabulary.end_tokens)
        adapter = _TokenizerAdapter(vocabulary, ends[0])
        self.llguidance = LLTokenizer(TokenizerWrapper(adapter), eos_token=ends)
        adapter.greedy = self.llguidance.greedy_tokenize
        self.size = len(adapter.tokens)
        self.end_tokens = np.array(ends, dtype=np.intp)
        names = {token: adapter.tokens[token].decode(errors="replace") for token in adapter.special_token_ids}
        self.control = {name: token for token, name in names.items() if name and token not in vocabulary.end_tokens}
        self.pieces = adapter.tokens
        self._is_plain = np.ones(self.size, dtype=np.bool_)
        self._is_plain[adapter.special_token_ids] = False
        self._is_plain[ends] = True

    def usable(self, control_tokens: Collection[int]) -> NDArray[np.bool_]:
        """Return which tokens answers may have: plain tokens, end tokens, and these control tokens."""
        usable = self._is_plain.copy()
        usable[list(control_tokens)] = True
        return usable
