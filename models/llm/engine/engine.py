"""The engine: takes requests in, computes steps, and returns what each step brings.

It knows tokens only; text, templates and HTTP belong to the server process.
"""

import time
from collections.abc import Callable
from typing import Protocol

from models.llm.constraints.choices import Choices
from models.llm.constraints.fail_closed import FailClosed
from models.llm.constraints.grammar import Grammar
from models.llm.engine.messages import Delta, Generate, TokenLogprobs
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import Sequence
from models.llm.engine.step import SequenceOutput, Step


class Runner(Protocol):
    """Computes steps with a model."""

    def compute(self, step: Step) -> list[list[int]]:
        """Return the sampled tokens of each chunk, as `Scheduler.update` takes them. Raises `RuntimeError`."""

    def logprobs(self, sequence: Sequence) -> list[TokenLogprobs]:
        """Return those of the tokens sampled for the sequence since the last call, and forget them."""

    def forget(self, sequence: Sequence) -> None:
        """Free what is kept for a sequence. Idempotent."""


class Engine:
    """Owns the scheduler and the sequences. Everything happens on the caller's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        end_token: int,
        *,
        prefill_budget: PrefillBudget,
        prompt_lookup: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._end_token = end_token
        self._prefill_budget = prefill_budget
        self._clock = clock
        self._prompt_lookup = prompt_lookup
        self._sequences: dict[int, Sequence] = {}

    @property
    def is_idle(self) -> bool:
        return self._scheduler.is_idle

    def add(self, request: Generate, grammar: Grammar | None = None) -> list[Delta]:
        """Queue a request, with its compiled constraint. Returns a delta with an error if it cannot be computed."""
        try:
            sequence = self._sequence(request, self._constraint(request, grammar))
            self._scheduler.add(sequence)
        except ValueError as error:
            return [Delta(request.id, [], error=str(error))]
        self._sequences[request.id] = sequence
        return []

    def _sequence(self, request: Generate, constraint: Choices | FailClosed | None) -> Sequence:
        return Sequence(
            request.id,
            request.prompt,
            request.max_tokens,
            request.sampling,
            constraint=constraint,
            client=request.client,
            priority=request.priority,
            prompt_lookup=self._prompt_lookup,
        )

    def _constraint(self, request: Generate, grammar: Grammar | None) -> Choices | FailClosed | None:
        if grammar is not None:
            return FailClosed(grammar, self._end_token)
        return Choices(request.choices, self._end_token) if request.choices else None

    def cancel(self, id: int) -> None:
        """Drop a request; an unknown or finished one is ignored."""
        if sequence := self._sequences.get(id):
            self._scheduler.remove(sequence)
            self._forget(sequence)

    def step(self) -> list[Delta]:
        """Compute one forward pass and return what it brings. A batch that fails ends its own requests only."""
        step = self._scheduler.schedule(self._prefill_budget.max_tokens)
        started = self._clock()
        try:
            sampled = self._runner.compute(step)
        except RuntimeError as error:
            return [self._fail(chunk.sequence, str(error)) for chunk in step.chunks]
        self._prefill_budget.learn(step, self._clock() - started)
        return [self._delta(output) for output in self._scheduler.update(step, sampled)]

    def _fail(self, sequence: Sequence, reason: str) -> Delta:
        self._scheduler.discard(sequence)
        self._forget(sequence)
        return Delta(sequence.id, [], error=reason)

    def _delta(self, output: SequenceOutput) -> Delta:
        sequence, tokens, finish_reason = output
        wants_logprobs = sequence.sampling.num_logprobs is not None
        logprobs = self._runner.logprobs(sequence)[: len(tokens)] if wants_logprobs else []
        if finish_reason is not None:
            self._forget(sequence)
            if isinstance(sequence.constraint, FailClosed) and sequence.constraint.error:
                return Delta(sequence.id, [], error=sequence.constraint.error)
        return Delta(sequence.id, tokens, sequence.num_cached or 0, finish_reason, logprobs)

    def _forget(self, sequence: Sequence) -> None:
        self._sequences.pop(sequence.id, None)
        self._runner.forget(sequence)
