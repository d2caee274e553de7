"""How answers were spelled. A text can be cut into tokens in many ways; a model draws one, and a tokenizer may choose
another, as for constrained answers, rare words and models with little training. The next turn of a conversation must
have the answer as it was drawn: only then is it the prefix that is in memory, and only then does the model read what it
said.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence

_MOST = 200_000  # tokens of all answers kept


class GeneratedTokenCache:
    """Of the latest answers that `tokenize` would cut otherwise. `piece` is the bytes of a token, none of control
    tokens."""

    def __init__(self, tokenize: Callable[[str], list[int]], piece: Callable[[int], bytes]) -> None:
        self._tokenize = tokenize
        self._piece = piece
        self._known: OrderedDict[str, array[int]] = OrderedDict()
        self._num_tokens = 0

    def of(self, text: str) -> list[int] | None:
        """Of an answer that is known by its whole text."""
        if text not in self._known:
            return None
        self._known.move_to_end(text)
        return self._known[text].tolist()

    def learn(self, text: str, tokens: Sequence[int]) -> None:
        """An answer that has ended. One that is not all of its tokens' text is not learned: a stop string was cut off,
        or there is a control token in it, which no content may have."""
        pieces = [self._piece(token) for token in tokens]
        while pieces and not pieces[-1]:  # what ended the turn
            pieces.pop()
        spelled = list(tokens[: len(pieces)])
        is_whole = b"".join(pieces).decode(errors="replace") == text and all(pieces)
        if not spelled or not is_whole or spelled == self._tokenize(text):
            return
        self._num_tokens += len(spelled) - len(self._known.pop(text, ()))
        self._known[text] = array("i", spelled)
        while self._num_tokens > _MOST and len(self._known) > 1:
            _, forgotten = self._known.popitem(last=False)
            self._num_tokens -= len(forgotten)
