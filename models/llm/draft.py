"""Guesses at the next tokens, which cost little to check and nothing when wrong.

Prompt lookup (Saxena, github.com/apoorvumang/prompt-lookup-decoding): a grounded answer copies names, numbers and
sentences out of its passages, so what followed the last tokens where they stood before is a good guess. The runner
keeps of a draft only what its sampler would have drawn, so answers are the same with and without.
"""

_NGRAMS = (3, 2)  # lengths of the ends that are looked up, longest first
_FIRST, _LONGEST = 4, 16  # tokens of a draft
_PATIENCE = 8  # tokens generated without a draft after drafts have kept failing


class PromptLookup:
    """For one sequence. `tokens` is the sequence's own list, which grows; it is only read."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._followers: dict[tuple[int, ...], int] = {}  # an n-gram: where what followed it last time begins
        self._num_indexed = 0
        self._length = _FIRST
        self._resume_at = 0

    def propose(self, limit: int) -> list[int]:
        """At most `limit` tokens that may come after the last; often none."""
        self._index()
        if len(self._tokens) < self._resume_at:
            return []
        for size in _NGRAMS:
            if at := self._followers.get(tuple(self._tokens[-size:])):
                return self._tokens[at : at + min(limit, self._length)]
        return []

    def learn(self, num_proposed: int, num_accepted: int) -> None:
        """Longer drafts while they are taken whole, shorter ones otherwise; a pause when nothing is taken."""
        if num_accepted == num_proposed:
            self._length = min(2 * self._length, _LONGEST)
        else:
            self._length = max(num_accepted + 1, 2)
            if num_accepted == 0:
                self._resume_at = len(self._tokens) + _PATIENCE

    def _index(self) -> None:
        """Every n-gram that something follows."""
        tokens = self._tokens
        for end in range(max(self._num_indexed, 1), len(tokens)):
            for size in _NGRAMS:
                if end >= size:
                    self._followers[tuple(tokens[end - size : end])] = end
        self._num_indexed = len(tokens)
