"""A model's vocabulary as llguidance needs it."""

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from models.errors import GrammarError

_MAX_FORCED = 1024  # bytes tokenized ahead
_MAX_TOKEN = 64  # bytes; only the last tokens of what was cut off ahead could be others without the cut


class GrammarVocabulary(Protocol):
    """What is needed of `models.llm.llama.vocabulary.GrammarVocabulary`."""

    @property
    def size(self) -> int: ...
    @property
    def end_tokens(self) -> Collection[int]: ...
    def piece(self, token: int, *, special: bool = False) -> bytes: ...
    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...


class _Pieces:
    """A vocabulary as llguidance's `TokenizerWrapper` wants it. Called by it to tokenize what a grammar forces.

    Must not raise and must give back the very bytes: llguidance relies on both.
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
        self._lead = ""  # what a SentencePiece vocabulary puts its own space in front of
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
    """A vocabulary made ready for grammars: once for each loaded model, about a second for 150,000 tokens.

    The vocabulary must stay open as long as this or a `Grammar` made with it is used.
    """

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        """Raises `GrammarError` when the vocabulary has no end token: no answer could be complete."""
        if not vocabulary.end_tokens:
            raise GrammarError("the model's vocabulary has no token that ends an answer")
        ends = sorted(vocabulary.end_tokens)
        pieces = _Pieces(vocabulary, ends[0])
        self.llguidance = LLTokenizer(TokenizerWrapper(pieces), eos_token=ends)
        pieces.greedy = self.llguidance.greedy_tokenize
        self.size = len(pieces.tokens)
        self.end_tokens = np.array(ends, dtype=np.intp)
        names = {token: pieces.tokens[token].decode(errors="replace") for token in pieces.special_token_ids}
        self.control = {name: token for token, name in names.items() if name and token not in vocabulary.end_tokens}
        self.pieces = pieces.tokens
        self._is_plain = np.ones(self.size, dtype=np.bool_)
        self._is_plain[pieces.special_token_ids] = False
        self._is_plain[ends] = True

    def usable(self, control_tokens: Collection[int]) -> NDArray[np.bool_]:
        """Of all tokens: those that are no control tokens, those that end, and these."""
        usable = self._is_plain.copy()
        usable[list(control_tokens)] = True
        return usable
