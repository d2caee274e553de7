"""Guesses at the next tokens. A right one spares a step; a wrong one has cost its place in one.

Prompt lookup (Saxena, github.com/apoorvumang/prompt-lookup-decoding): a grounded answer copies names, numbers and
sentences out of its passages, so what followed the last tokens where they stood before is a good guess. The runner
keeps of a draft only what its sampler would have drawn, so answers are the same with and without.

On a CPU a guess is far from free, so a draft is as long as it is worth. That follows from what a step costs and how
likely a guess holds, which is learned for each sequence, apart for short and long matches, from whatever comes, also
where nothing was guessed.
"""

from bisect import bisect_right
from typing import NamedTuple

from models.llm.engine.step_cost import DraftBudget

_NGRAMS = (3, 2)  # lengths of the ends that are looked up, longest first
_LONGEST_MATCH = 6  # tokens; a longer one says no more
_CLASSES = (3, 4, 6)  # a match is of the first class below 3 tokens, of the second below 4, …
_PRIORS = (0.3, 0.5, 0.7, 0.9)  # of each class: how often the next token followed as before, in English text
_PRIOR_WEIGHT = 4.0  # tokens
_MEMORY = 0.98  # of what came before, with each new token
_LONGEST = 15  # tokens of a draft


class Draft(NamedTuple):
    """`expected`: how many of the tokens are likely to hold."""

    tokens: list[int]
    expected: float


NONE = Draft([], 0.0)


class _Record:
    """How a class of matches has fared: tokens that followed as before, and those that did not."""

    def __init__(self, prior: float) -> None:
        self._held = _PRIOR_WEIGHT * prior
        self._failed = _PRIOR_WEIGHT - self._held

    @property
    def rate(self) -> float:
        return self._held / (self._held + self._failed)

    def learn(self, num_held: int, *, has_failed: bool) -> None:
        fading = _MEMORY ** (num_held + has_failed)
        self._held = self._held * fading + num_held
        self._failed = self._failed * fading + has_failed


class _Match(NamedTuple):
    """The end of `num_tokens` tokens stood before; what followed it there begins at `found`."""

    found: int
    num_tokens: int
    record: _Record


class PromptLookup:
    """For one sequence. `tokens` is the sequence's own list, which grows; it is only read."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._followers: dict[tuple[int, ...], int] = {}  # an n-gram: where what followed it last time begins
        self._num_indexed = 0
        self._records = [_Record(prior) for prior in _PRIORS]
        self._last: _Match | None = None

    def propose(self, limit: int, draft_budget: DraftBudget) -> Draft:
        """At most `limit` tokens that may come after the last; often none."""
        self._learn()
        self._index()
        tokens = self._tokens
        found = next((at for size in _NGRAMS if (at := self._followers.get(tuple(tokens[-size:])))), 0)
        self._last = None
        if not found:
            return NONE
        record = self._records[bisect_right(_CLASSES, self._agreement(found))]
        self._last = _Match(found, len(tokens), record)
        size = draft_budget.length(record.rate, min(limit, _LONGEST, len(tokens) - found), len(tokens))
        return Draft(tokens[found : found + size], sum(record.rate**i for i in range(1, size + 1)))

    def _learn(self) -> None:
        """Whether what has come since the last match is what followed there."""
        if self._last is None:
            return
        found, then, record = self._last
        came = self._tokens[then:]
        pairs = zip(came, self._tokens[found:then], strict=False)
        held = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(came), then - found))
        record.learn(held, has_failed=held < min(len(came), then - found))

    def _agreement(self, at: int) -> int:
        """How many tokens before `at` are the last ones too."""
        tokens, size = self._tokens, 0
        while size < min(_LONGEST_MATCH, at) and tokens[at - 1 - size] == tokens[-1 - size]:
            size += 1
        return size

    def _index(self) -> None:
        """Every n-gram that something follows."""
        tokens = self._tokens
        for end in range(max(self._num_indexed, 1), len(tokens)):
            for size in _NGRAMS:
                if end >= size:
                    self._followers[tuple(tokens[end - size : end])] = end
        self._num_indexed = len(tokens)
