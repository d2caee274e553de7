"""How much of a prompt a step may carry beside answers that are being given, so that these do not falter.

A step is as long as all its tokens together. Fixed sizes would be wrong on most machines: 64 tokens are 3 ms on a GPU
and 5 s for a large model on two cores. So the engine measures its steps.
"""

from models.llm.engine.scheduler import Step

_LONGEST_S = 0.5  # of a step beside answers; smaller ones read prompts at half the speed and less
_SMALLEST = 16  # tokens; below this llama.cpp reads prompts at a fraction of its speed
_FIRST = 32  # tokens, before anything was measured
_WEIGHT = 0.3  # of the newest measurement


class PrefillBudget:
    """Learns from one engine's steps."""

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._answers_s: float | None = None  # a step without prompts
        self._token_s: float | None = None  # each token of a prompt

    @property
    def beside(self) -> int:
        """Most tokens of prompts in a step that also goes on with answers: a power of two, or `n_batch`.

        Rounded, so that steps of the same work are mostly of the same shape, and so are their sums.
        """
        if self._token_s is None:
            return min(_FIRST, self._n_batch)
        affordable = (_LONGEST_S - (self._answers_s or 0.0)) / self._token_s
        size = _SMALLEST
        while 2 * size <= affordable and size < self._n_batch:
            size *= 2
        return min(size, self._n_batch)

    def learn(self, step: Step, seconds: float) -> None:
        """What a step took."""
        num_prompt = sum(len(chunk.tokens) for chunk in step.chunks if chunk.is_prefill)
        if num_prompt >= _SMALLEST:
            answers_s = (self._answers_s or 0.0) if any(not chunk.is_prefill for chunk in step.chunks) else 0.0
            self._token_s = _mixed(self._token_s, max(seconds - answers_s, 0.2 * seconds) / num_prompt)
        elif not num_prompt and step.chunks:
            self._answers_s = _mixed(self._answers_s, seconds)


def _mixed(old: float | None, new: float) -> float:
    return new if old is None else (1 - _WEIGHT) * old + _WEIGHT * new
