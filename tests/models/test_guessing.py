"""With the built-in model: guessing changes how fast an answer comes, and nothing else about it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from scipy.stats import chi2_contingency

from models.catalog import resolve_chat
from models.llm.engine import Engine
from models.llm.llama import LlamaRunner, Vocabulary
from models.llm.messages import Generate
from models.llm.pace import Pace
from models.llm.params import EngineParams, SamplingParams
from models.llm.scheduler import Chunk, Scheduler

BUILTIN = resolve_chat("reader-v0").path
PARAMS = EngineParams(n_ctx=256, n_slots=8, n_batch=64, n_threads=1)
NUM_SEEDS, NUM_TOKENS = 500, 4
FALSE_ALARM = 1e-6  # how often the statistic may find a difference where there is none
PROMPT = "<|user|>\n[1] a.md\n{0} {0} {0}\n\nQuestion: {0}<|end|>\n<|assistant|>\n{0} Parental"
SENTENCE = "Parental leave is sixteen weeks. Parental time is long."


class Gullible(LlamaRunner):
    """Believes its first guess."""

    def _draw(self, chunk: Chunk, row: int) -> list[int]:
        guesses = chunk.tokens[len(chunk.tokens) - chunk.num_draft :]
        return (
            [guesses[0], self._sample(chunk.sequence, row + 1, guesses[:1])] if guesses else super()._draw(chunk, row)
        )


@pytest.fixture(scope="module")
def prompt() -> list[int]:
    with Vocabulary(BUILTIN) as vocabulary:
        return vocabulary.tokenize(PROMPT.format(SENTENCE), parse_special=True)


@contextmanager
def opened(runner: type[LlamaRunner], *, guesses: bool) -> Iterator[Engine]:
    """Guesses are free, so there are many."""
    with runner(BUILTIN, PARAMS) as opened:
        limits = opened.limits._replace(guess_price=0.0, guess_price_beside=0.0)
        scheduler = Scheduler(limits, opened.end_tokens)
        yield Engine(scheduler, opened, min(opened.end_tokens), pace=Pace(64), prompt_lookup=guesses)


def answers(engine: Engine, prompt: list[int], samplings: Sequence[SamplingParams]) -> list[tuple[int, ...]]:
    told: dict[int, list[int]] = {id: [] for id in range(len(samplings))}
    for id, sampling in enumerate(samplings):
        engine.add(Generate(id, prompt, NUM_TOKENS, sampling))
    while not engine.is_idle:
        for delta in engine.step():
            assert delta.error is None
            told[delta.id] += delta.tokens
    return [tuple(tokens) for tokens in told.values()]


def drawn(runner: type[LlamaRunner], prompt: list[int], first_seed: int, *, guesses: bool) -> Counter[tuple[int, ...]]:
    """What so many seeds say in two tokens."""
    samplings = [SamplingParams(temperature=1.2, seed=first_seed + i) for i in range(NUM_SEEDS)]
    with opened(runner, guesses=guesses) as engine:
        return Counter(answer[:2] for answer in answers(engine, prompt, samplings))


def likelihood(one: Counter[tuple[int, ...]], other: Counter[tuple[int, ...]]) -> float:
    """That both are of one distribution (chi-square test of two samples; what is rare is counted together)."""
    common = [answer for answer in one | other if one[answer] + other[answer] >= 20]
    rows = [[count[answer] for answer in common] for count in (one, other)]
    for row, count in zip(rows, (one, other), strict=True):
        row.append(count.total() - sum(row) + 1)
    return float(chi2_contingency(rows).pvalue)


@pytest.fixture(scope="module")
def without(prompt: list[int]) -> Counter[tuple[int, ...]]:
    """Answers that nobody guessed at."""
    return drawn(LlamaRunner, prompt, 10_000, guesses=False)


def test_guesses_leave_the_distribution_of_answers_as_it_is(
    prompt: list[int], without: Counter[tuple[int, ...]]
) -> None:
    with_guesses = drawn(LlamaRunner, prompt, 0, guesses=True)
    assert len(with_guesses) > 3, "there is a choice"
    assert likelihood(with_guesses, without) > FALSE_ALARM


def test_the_test_would_notice_a_guess_that_is_believed(prompt: list[int], without: Counter[tuple[int, ...]]) -> None:
    assert likelihood(drawn(Gullible, prompt, 0, guesses=True), without) < FALSE_ALARM


def test_guesses_leave_greedy_answers_as_they_are(prompt: list[int]) -> None:
    greedy = [SamplingParams(temperature=0)]
    for size in range(20, len(prompt), 7):
        told = []
        for guesses in (True, False):
            with opened(LlamaRunner, guesses=guesses) as engine:
                told.append(answers(engine, prompt[:size], greedy))
        assert told[0] == told[1]
