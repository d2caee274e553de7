"""The cost of a forward pass by its number of tokens, and the length of draft that this cost makes worthwhile.

llama.cpp multiplies quantized weights on a CPU by four tokens at a time, and the rest one by one, so a second token
costs as much as the first and a fourth hardly anything (docs/benchmarks.md). The costs are constants and not measured
while the engine runs: otherwise the same request would be computed in other steps each time, and could get another
answer.
"""

from typing import NamedTuple


class StepCost(NamedTuple):
    """The cost of n tokens, in passes of one token.

    It is `first[n - 1]`; beyond that, `further` for each `tile` of tokens that is begun.
    """

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


# The cost of one token's attention to each token before it, of a model of half a billion parameters; attention is not
# shared within a tile.
_ATTENTION_COST = 8e-5


class DraftBudget(NamedTuple):
    """The decoding part of a step while it is scheduled: its rows, and the tokens that they are expected to bring."""

    num_rows: int
    num_tokens: float
    cost: StepCost

    def best_length(self, rate: float, limit: int, num_cells: int = 0) -> int:
        """Return the draft length, at most `limit`, that brings most tokens for the step's cost.

        `rate`: probability that a draft token is accepted if those before it are. `num_cells`: tokens that each draft
        token attends to.
        """
        attention = _ATTENTION_COST * num_cells

        def cost(num_rows: int) -> float:
            return self.cost(num_rows) + attention * num_rows

        best, best_worth = 0, self.num_tokens / cost(self.num_rows)
        likelihood, num_tokens = 1.0, self.num_tokens
        for length in range(1, limit + 1):
            likelihood *= rate
            num_tokens += likelihood
            if (worth := num_tokens / cost(self.num_rows + length)) > best_worth:
                best, best_worth = length, worth
        return best

    def with_draft(self, length: int, expected: float) -> "DraftBudget":
        return self._replace(num_rows=self.num_rows + length, num_tokens=self.num_tokens + expected)
