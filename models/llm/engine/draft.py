"""Drafts: guesses at a sequence's next tokens, verified by the step that computes them (speculative decoding).

Prompt lookup (Saxena, github.com/apoorvumang/prompt-lookup-decoding): a grounded answer copies names, numbers and
sentences out of its passages, so the tokens that followed the last few tokens at an earlier position are a good guess.
The runner accepts only draft tokens that its sampler draws too, so answers are the same with drafts and without.

On a CPU a draft token is far from free, so a draft is as long as it is worth. That depends on what a step costs and on
how likely a draft token is accepted. The acceptance rate is learned for each sequence, separately for short and long
matches, from every token that comes, also where nothing was drafted.
"""

from bisect import bisect_right
from typing import NamedTuple

from models.llm.engine.step_cost import DraftBudget

_NGRAM_SIZES = (3, 2)  # tokens of the n-grams that are looked up, longest first
_MAX_MATCH = 6  # tokens; a longer match predicts no better
_CLASS_LIMITS = (3, 4, 6)  # a match is of the first class below 3 tokens, of the second below 4, …
_PRIOR_RATES = (0.3, 0.5, 0.7, 0.9)  # acceptance rate of each class, measured on English text
_PRIOR_WEIGHT = 4.0  # tokens
_DECAY = 0.98  # of earlier observations, with each new token
_MAX_DRAFT = 15  # tokens


class Draft(NamedTuple):
    """`expected`: how many of the tokens are expected to be accepted."""

    tokens: list[int]
    expected: float


NO_DRAFT = Draft([], 0.0)


class _AcceptanceRate:
    """How often the next token was the one that followed the match, for one class of matches."""

    def __init__(self, prior: float) -> None:
        self._num_accepted = _PRIOR_WEIGHT * prior
        self._num_rejected = _PRIOR_WEIGHT - self._num_accepted

    @property
    def value(self) -> float:
        return self._num_accepted / (self._num_accepted + self._num_rejected)

    def update(self, num_accepted: int, *, is_rejected: bool) -> None:
        """Learn that `num_accepted` tokens followed as before, and whether the one after them did not."""
        decay = _DECAY ** (num_accepted + is_rejected)
        self._num_accepted = self._num_accepted * decay + num_accepted
        self._num_rejected = self._num_rejected * decay + is_rejected


class _Match(NamedTuple):
    """The last of `num_tokens` tokens also stood earlier; what followed them there begins at `position`."""

    position: int
    num_tokens: int
    rate: _AcceptanceRate


class PromptLookup:
    """Proposes drafts for one sequence. `tokens` is the sequence's own list, which grows; it is only read."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._followers: dict[tuple[int, ...], int] = {}  # by n-gram: the position after its latest occurrence
        self._num_indexed = 0
        self._rates = [_AcceptanceRate(prior) for prior in _PRIOR_RATES]
        self._last_match: _Match | None = None

    def propose(self, limit: int, draft_budget: DraftBudget) -> Draft:
        """Return at most `limit` tokens that may come after the last; often none."""
        self._learn()
        self._index()
        tokens = self._tokens
        position = next((at for size in _NGRAM_SIZES if (at := self._followers.get(tuple(tokens[-size:])))), 0)
        self._last_match = None
        if not position:
            return NO_DRAFT
        rate = self._rates[bisect_right(_CLASS_LIMITS, self._match_length(position))]
        self._last_match = _Match(position, len(tokens), rate)
        size = draft_budget.best_length(rate.value, min(limit, _MAX_DRAFT, len(tokens) - position), len(tokens))
        return Draft(tokens[position : position + size], sum(rate.value**i for i in range(1, size + 1)))

    def _learn(self) -> None:
        """Compare the tokens that came since the last match with those that followed it, and update its class."""
        if self._last_match is None:
            return
        position, num_tokens, rate = self._last_match
        new_tokens, followers = self._tokens[num_tokens:], self._tokens[position:num_tokens]
        num_compared = min(len(new_tokens), len(followers))
        pairs = zip(new_tokens, followers, strict=False)
        num_accepted = next((i for i, (a, b) in enumerate(pairs) if a != b), num_compared)
        rate.update(num_accepted, is_rejected=num_accepted < num_compared)

    def _match_length(self, position: int) -> int:
        """Return how many tokens before `position` are the same as the last tokens, at most `_MAX_MATCH`."""
        tokens, length = self._tokens, 0
        while length < min(_MAX_MATCH, position) and tokens[position - 1 - length] == tokens[-1 - length]:
            length += 1
        return length

    def _index(self) -> None:
        """Index every new n-gram that a token follows."""
        tokens = self._tokens
        for end in range(max(self._num_indexed, 1), len(tokens)):
            for size in _NGRAM_SIZES:
                if end >= size:
                    self._followers[tuple(tokens[end - size : end])] = end
        self._num_indexed = len(tokens)
