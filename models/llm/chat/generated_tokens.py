"""The tokens of generated answers, as they were drawn.

A text can be cut into tokens in many ways; a model draws one, and a tokenizer may choose another, as for constrained
answers, rare words and models with little training. The next turn of a conversation must have the answer as it was
drawn: only then is it a prefix that is in memory, and only then does the model read what it wrote.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence

_MAX_TOKENS = 200_000  # of all answers together


class GeneratedTokenCache:
    """The drawn tokens of the latest answers that `tokenize` would cut differently, by their whole text.

    `piece` gives the bytes of a token, and none for a control token.
    """

    def __init__(self, tokenize: Callable[[str], list[int]], piece: Callable[[int], bytes]) -> None:
        self._tokenize = tokenize
        self._piece = piece
        self._tokens_by_text: OrderedDict[str, array[int]] = OrderedDict()
        self._num_tokens = 0

    def get(self, text: str) -> list[int] | None:
        if text not in self._tokens_by_text:
            return None
        self._tokens_by_text.move_to_end(text)
        return self._tokens_by_text[text].tolist()

    def add(self, text: str, tokens: Sequence[int]) -> None:
        """Remember an answer that has ended.

        An answer that is not the text of all its tokens is left out: a stop string was cut off, or it has a control
        token, which no content may have.
        """
        pieces = [self._piece(token) for token in tokens]
        while pieces and not pieces[-1]:  # tokens that end the turn
            pieces.pop()
        drawn = list(tokens[: len(pieces)])
        is_whole = b"".join(pieces).decode(errors="replace") == text and all(pieces)
        if not drawn or not is_whole or drawn == self._tokenize(text):
            return
        self._num_tokens += len(drawn) - len(self._tokens_by_text.pop(text, ()))
        self._tokens_by_text[text] = array("i", drawn)
        while self._num_tokens > _MAX_TOKENS and len(self._tokens_by_text) > 1:
            _, oldest = self._tokens_by_text.popitem(last=False)
            self._num_tokens -= len(oldest)
