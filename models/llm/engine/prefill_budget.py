"""How many prompt tokens a step may hold beside decoding sequences, so that answers do not stall.

A step takes as long as all its tokens together. A fixed number would be wrong on most machines: 64 tokens are 3 ms on a
GPU and 5 s for a large model on two cores. So the engine measures its steps.
"""

from models.llm.engine.step import Step

_MAX_STEP_S = 0.5  # of a step that also decodes; shorter steps read prompts at half the speed and less
_MIN_TOKENS = 16  # below this llama.cpp reads prompts at a fraction of its speed
_FIRST_TOKENS = 32  # before anything is measured
_NEW_WEIGHT = 0.3  # of the latest measurement in the moving average


class PrefillBudget:
    """Learns from one engine's steps."""

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._decode_s: float | None = None  # of a step without prompt tokens
        self._prompt_token_s: float | None = None  # of each prompt token

    @property
    def max_tokens(self) -> int:
        """Most prompt tokens in a step that also decodes: a power of two, or `n_batch`.

        Powers of two give steps of the same work mostly the same shape, and so the same floating-point sums.
        """
        if self._prompt_token_s is None:
            return min(_FIRST_TOKENS, self._n_batch)
        affordable = (_MAX_STEP_S - (self._decode_s or 0.0)) / self._prompt_token_s
        size = _MIN_TOKENS
        while 2 * size <= affordable and size < self._n_batch:
            size *= 2
        return min(size, self._n_batch)

    def learn(self, step: Step, seconds: float) -> None:
        """Take in how long a step took."""
        num_prompt = sum(len(chunk.tokens) for chunk in step.chunks if chunk.is_prefill)
        if num_prompt >= _MIN_TOKENS:
            decode_s = (self._decode_s or 0.0) if any(not chunk.is_prefill for chunk in step.chunks) else 0.0
            prefill_s = max(seconds - decode_s, 0.2 * seconds)
            self._prompt_token_s = _moving_average(self._prompt_token_s, prefill_s / num_prompt)
        elif not num_prompt and step.chunks:
            self._decode_s = _moving_average(self._decode_s, seconds)


def _moving_average(old: float | None, new: float) -> float:
    return new if old is None else (1 - _NEW_WEIGHT) * old + _NEW_WEIGHT * new
