"""The engine process: one loaded GGUF, and the loop that steps it. `python -m models.llm.engine FD`.

Knows tokens only; text, templates and HTTP are the server's.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from models.errors import GrammarError
from models.ipc import Inbox, child_main
from models.llm.constraint import Choices, FailClosed
from models.llm.grammar import Constraint, Grammar, GrammarTokenizer
from models.llm.messages import Cancel, Delta, Deltas, Generate, Load, Ready, ToEngine, TokenLogprobs
from models.llm.scheduler import Progress, Scheduler, Step
from models.llm.sequence import Sequence


class Runner(Protocol):
    def compute(self, step: Step) -> list[list[int]]: ...
    def logprobs(self, sequence: Sequence) -> list[TokenLogprobs]: ...
    def forget(self, sequence: Sequence) -> None: ...


class Engine:
    """Requests by id on one side, sequences on the other. Everything happens on the caller's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        end_token: int,
        *,
        grammar: Callable[[Constraint], Grammar] | None = None,
        prompt_lookup: bool = True,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._end_token = end_token
        self._grammar = grammar
        self._prompt_lookup = prompt_lookup
        self._sequences: dict[int, Sequence] = {}

    @property
    def is_idle(self) -> bool:
        return self._scheduler.is_idle

    def add(self, request: Generate) -> list[Delta]:
        """Takes a request in; what there is to say at once, if its constraint cannot be enforced."""
        try:
            constraint = self._constraint(request)
            sequence = self._sequence(request, constraint)
            self._scheduler.add(sequence)
        except (GrammarError, ValueError) as error:
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
            drafts=self._prompt_lookup,
        )

    def _constraint(self, request: Generate) -> Choices | FailClosed | None:
        if request.constraint is not None and self._grammar is not None:
            return FailClosed(self._grammar(request.constraint), self._end_token)
        return Choices(request.choices, self._end_token) if request.choices else None

    def cancel(self, id: int) -> None:
        if sequence := self._sequences.get(id):
            self._scheduler.remove(sequence)
            self._forget(sequence)

    def step(self) -> list[Delta]:
        """One forward pass; what it brought. A batch that fails ends its requests, and only those."""
        step = self._scheduler.schedule()
        try:
            sampled = self._runner.compute(step)
        except RuntimeError as error:
            return [self._fail(chunk.sequence, str(error)) for chunk in step.chunks]
        return [self._delta(progress) for progress in self._scheduler.update(step, sampled)]

    def _fail(self, sequence: Sequence, reason: str) -> Delta:
        self._scheduler.discard(sequence)
        self._forget(sequence)
        return Delta(sequence.id, [], error=reason)

    def _delta(self, progress: Progress) -> Delta:
        sequence, tokens, finish_reason = progress
        is_told = sequence.sampling.num_logprobs is not None
        logprobs = self._runner.logprobs(sequence)[: len(tokens)] if is_told else []
        if finish_reason is not None:
            self._forget(sequence)
            if isinstance(sequence.constraint, FailClosed) and sequence.constraint.error:
                return Delta(sequence.id, [], error=sequence.constraint.error)
        return Delta(sequence.id, tokens, sequence.num_cached or 0, finish_reason, logprobs)

    def _forget(self, sequence: Sequence) -> None:
        self._sequences.pop(sequence.id, None)
        self._runner.forget(sequence)


class _Grammars:
    """Makes grammars for the vocabulary of a model, which is prepared when the first is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokenizer: GrammarTokenizer | None = None

    def __call__(self, constraint: Constraint) -> Grammar:
        from models.llm.llama import Vocabulary

        if self._tokenizer is None:
            self._tokenizer = GrammarTokenizer(Vocabulary(self._path))
        return Grammar(self._tokenizer, constraint)


def _serve(inbox: Inbox[ToEngine]) -> None:
    from models.llm.llama import LlamaRunner  # loads llama.cpp: only here, after the socket is being read

    load = next(iter(inbox), None)
    if not isinstance(load, Load):
        return
    with LlamaRunner(Path(load.path), load.params) as runner:
        engine = Engine(
            Scheduler(runner.limits, runner.end_tokens),
            runner,
            min(runner.end_tokens, default=0),
            grammar=_Grammars(Path(load.path)),
            prompt_lookup=load.params.prompt_lookup and runner.limits.is_divisible,
        )
        inbox.send(Ready(runner.limits.n_ctx, runner.num_params, runner.size))
        while (messages := inbox.take(timeout=None if engine.is_idle else 0)) is not None:
            for message in messages:
                match message:
                    case Generate():
                        if refused := engine.add(message):
                            inbox.send(Deltas(refused))
                    case Cancel(id):
                        engine.cancel(id)
            if not engine.is_idle and (deltas := engine.step()):
                inbox.send(Deltas(deltas))


if __name__ == "__main__":
    child_main(_serve, ToEngine)
