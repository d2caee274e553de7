"""The text of one answer as its tokens arrive from the engine."""

from collections.abc import Callable, Iterator

import msgspec

from models.llm.chat.detokenizer import Detokenizer
from models.llm.chat.logprobs import ScoredToken, TokenAlignment, candidate
from models.llm.engine.messages import Delta, TokenLogprobs
from models.llm.engine.sequence import FinishReason


class TextDelta(msgspec.Struct, frozen=True):
    """The text that a step brought. `tokens` are those of the text, when log probabilities were asked for."""

    text: str
    num_tokens: int
    finish_reason: FinishReason | None
    num_cached: int  # tokens of the prompt that needed no computing
    tokens: tuple[ScoredToken, ...] = ()
    stopped_by: str | None = None  # the stop string that ended it


class TextStream:
    """Turns the engine's deltas into text, with scored tokens where log probabilities come with them."""

    def __init__(self, detokenizer: Detokenizer, piece: Callable[[int], bytes]) -> None:
        """`piece` gives the bytes of a token as log probabilities show it, a control token by its name."""
        self._detokenizer = detokenizer
        self._piece = piece
        self._alignment = TokenAlignment()

    @property
    def is_stopped(self) -> bool:
        return self._detokenizer.is_stopped

    def feed(self, delta: Delta) -> Iterator[TextDelta]:
        """Yield the delta's text: as a whole, or token by token where each has log probabilities."""
        if not delta.logprobs:
            yield self._text_delta(delta, delta.tokens, delta.is_last)
            return
        last = len(delta.tokens) - 1
        for at, logprobs in enumerate(delta.logprobs):
            yield self._text_delta(delta, [logprobs.token], delta.is_last and at == last, logprobs)
            if self.is_stopped:
                return

    def _text_delta(
        self, delta: Delta, tokens: list[int], is_last: bool, logprobs: TokenLogprobs | None = None
    ) -> TextDelta:
        text = self._detokenizer.feed(tokens, final=is_last)
        if logprobs:
            top = tuple(candidate(self._piece(token), logprob) for token, logprob in logprobs.top)
            chosen = candidate(self._piece(logprobs.token), logprobs.logprob)
            self._alignment.push([ScoredToken(self._detokenizer.decoded, chosen, top)])
        return TextDelta(
            text=text,
            num_tokens=len(tokens),
            finish_reason=FinishReason.STOP if self.is_stopped else delta.finish_reason if is_last else None,
            num_cached=delta.num_cached,
            tokens=self._alignment.take(text, self._detokenizer.num_held),
            stopped_by=self._detokenizer.stopped_by,
        )
