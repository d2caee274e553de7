"""Guesses at the next tokens. A right one spares a step; a wrong one has cost its place in one.

Prompt lookup (Saxena, github.com/apoorvumang/prompt-lookup-decoding): a grounded answer copies names, numbers and
sentences out of its passages, so what followed the last tokens where they stood before is a good guess. The runner
keeps of a draft only what its sampler would have drawn, so answers are the same with and without.

On a CPU a guess is far from free: it costs about half of what a token does. So a draft goes on for as long as its next
guess is likelier to hold than the price; how likely is learned for each sequence, apart for short and long matches.
"""

from bisect import bisect_right

_NGRAMS = (3, 2)  # lengths of the ends that are looked up, longest first
_LONGEST_MATCH = 6  # tokens; a longer one says no more
_CLASSES = (3, 4, 6)  # a match is of the first class below 3 tokens, of the second below 4, …
_PRIORS = (0.3, 0.5, 0.7, 0.9)  # of each class: how often the next token followed as before, in English text
_PRIOR_WEIGHT = 2.0  # tokens
_MEMORY = 0.8  # of what earlier drafts showed, with each new one
_LONGEST = 16  # tokens of a draft
_PATIENCE = 24  # matches of a class let go by before one guess sees whether it has become better


class _Record:
    """How a class of matches has fared: tokens that followed as before, and ends of drafts where one did not."""

    def __init__(self, prior: float) -> None:
        self._held = _PRIOR_WEIGHT * prior
        self._failed = _PRIOR_WEIGHT - self._held
        self._num_passed_over = 0

    def length(self, price: float) -> int:
        """Guesses that are each likelier to hold than `price`, with all before them."""
        likelihood = rate = self._held / (self._held + self._failed)
        size = 0
        while likelihood > price and size < _LONGEST:
            size += 1
            likelihood *= rate
        if size == 0:
            self._num_passed_over += 1
            return int(self._num_passed_over % _PATIENCE == 0)
        return size

    def learn(self, num_proposed: int, num_accepted: int) -> None:
        self._held = self._held * _MEMORY + num_accepted
        self._failed = self._failed * _MEMORY + (num_accepted < num_proposed)


class PromptLookup:
    """For one sequence. `tokens` is the sequence's own list, which grows; it is only read."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._followers: dict[tuple[int, ...], int] = {}  # an n-gram: where what followed it last time begins
        self._num_indexed = 0
        self._records = [_Record(prior) for prior in _PRIORS]
        self._asked = self._records[0]  # the class of the last draft

    def propose(self, limit: int, price: float) -> list[int]:
        """At most `limit` tokens that may come after the last; often none. `price`: of a guess, in tokens."""
        self._index()
        found = next((at for size in _NGRAMS if (at := self._followers.get(tuple(self._tokens[-size:])))), 0)
        if not found:
            return []
        self._asked = self._records[bisect_right(_CLASSES, self._match(found))]
        return self._tokens[found : found + min(limit, self._asked.length(price))]

    def learn(self, num_proposed: int, num_accepted: int) -> None:
        """How the last draft fared."""
        self._asked.learn(num_proposed, num_accepted)

    def _match(self, at: int) -> int:
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
