"""Questions with known answers, how the server answers each, and the figures over all of them."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec


class EvalQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the list of questions. Without `file` and `answer`, the server should refuse: no document answers it.

    `file` is the file that holds the answer, as `path` or `collection/path`; `answer`: words that the answer must have.
    """

    question: str
    file: str | None = None
    answer: str | None = None

    @property
    def is_answerable(self) -> bool:
        return self.file is not None or self.answer is not None


class EvalOutcome(msgspec.Struct, frozen=True):
    """How the server answered a question. A field that the question does not test is None.

    `rank` is the rank of the first passage from the right file, from 1; None also if none is among the passages.
    `holds`: the answer has the expected words. `said` is the answer, "" if only the search was tested.
    """

    question: str
    rank: int | None
    is_cited: bool | None
    holds: bool | None
    refuses: bool
    said: str


class EvalFigures(msgspec.Struct, frozen=True):
    """Shares from 0 to 1; None where no question tests it. `mrr`: mean reciprocal rank (Voorhees, TREC-8, 1999)."""

    questions: int
    found: float | None
    mrr: float | None
    cited: float | None
    held: float | None
    refused: float | None
    refused_falsely: float | None


def figures_of(questions: Sequence[EvalQuestion], outcomes: Sequence[EvalOutcome]) -> EvalFigures:
    """Return the figures over all questions and their outcomes, which are in the same order."""
    with_file = [outcome for question, outcome in zip(questions, outcomes, strict=True) if question.file is not None]
    answered = [(question, outcome) for question, outcome in zip(questions, outcomes, strict=True) if outcome.said]
    reciprocal_ranks = [1 / outcome.rank if outcome.rank else 0.0 for outcome in with_file]
    return EvalFigures(
        questions=len(outcomes),
        found=_share(outcome.rank is not None for outcome in with_file),
        mrr=statistics.mean(reciprocal_ranks) if reciprocal_ranks else None,
        cited=_share(outcome.is_cited for outcome in outcomes if outcome.is_cited is not None),
        held=_share(outcome.holds for outcome in outcomes if outcome.holds is not None),
        refused=_share(outcome.refuses for question, outcome in answered if not question.is_answerable),
        refused_falsely=_share(outcome.refuses for question, outcome in answered if question.is_answerable),
    )


def _share(values: Iterable[bool]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None
