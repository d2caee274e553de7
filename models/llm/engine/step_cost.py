"""What a forward pass costs by the number of its tokens, and how many guesses that makes worth their places.

llama.cpp multiplies quantized weights on a CPU by four tokens at a time, and what is over one by one, so that a second
token costs as much as the first and a fourth hardly anything (docs/benchmarks.md). The costs are given, not measured as
it runs: otherwise the same request would not be computed in the same steps each time, and not have the same answer.
"""

from typing import NamedTuple


class StepCost(NamedTuple):
    """In passes of one token: `first` of 1, 2, … tokens; then `further` for each `tile` more that is begun."""

    first: tuple[float, ...]
    tile: int
    further: float

    def __call__(self, num_tokens: int) -> float:
        if num_tokens <= len(self.first):
            return self.first[num_tokens - 1]
        num_tiles = -((len(self.first) - num_tokens) // self.tile)
        return self.first[-1] + num_tiles * self.further


CPU_COST = StepCost((1, 1.95, 2.45, 2.77, 3.75, 3.9, 4.1, 4.45, 5.3, 5.65, 5.75, 5.85, 6.85, 6.85, 6.85, 6.9), 4, 1.05)
GPU_COST = StepCost((1.0,), 1, 0.1)


_ATTENTION = 8e-5  # of a token to each token before it, which is not shared within a tile; of half a billion parameters


class DraftBudget(NamedTuple):
    """A step in the making: places taken, and the tokens that they are expected to bring."""

    num_rows: int
    num_tokens: float
    cost: StepCost

    def length(self, rate: float, limit: int, num_cells: int = 0) -> int:
        """Guesses, each of which holds with `rate` if all before it do, that bring most tokens for what they cost.

        `num_cells`: tokens that each of them attends to.
        """
        attention = _ATTENTION * num_cells

        def cost(num_rows: int) -> float:
            return self.cost(num_rows) + attention * num_rows

        best, most = 0, self.num_tokens / cost(self.num_rows)
        likelihood, tokens = 1.0, self.num_tokens
        for size in range(1, limit + 1):
            likelihood *= rate
            tokens += likelihood
            if (worth := tokens / cost(self.num_rows + size)) > most:
                best, most = size, worth
        return best

    def with_draft(self, size: int, expected: float) -> "DraftBudget":
        return self._replace(num_rows=self.num_rows + size, num_tokens=self.num_tokens + expected)
