"""Many answers of the built-in model, with guesses and without: what tests and scripts/prove/drafts.py compare."""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from scipy.stats import chi2_contingency

from models.catalog import resolve_chat
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Generate, TokenLogprobs
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.step import ScheduledChunk
from models.llm.engine.step_cost import StepCost
from models.llm.llama.runner import LlamaRunner
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams, SamplingParams

FREE = StepCost((1.0,), 1, 0.0)  # every guess is worth its place

FALSE_ALARM = 1e-6  # how often the statistic may find a difference where there is none
NUM_TOKENS = 4  # of an answer

_BUILTIN = resolve_chat("reader-v1").path
_PARAMS = EngineParams(n_ctx=256, n_slots=8, n_batch=64, n_threads=1)
_PROMPT = "<|user|>\n[1] a.md\n{0} {0} {0}\n\nQuestion: {0}<|end|>\n<|assistant|>\n{0} {1}"
_RARE = 20  # answers; what is rarer is counted together

Answer = tuple[int, ...]  # its tokens


class Gullible(LlamaRunner):
    """Believes its first guess."""

    def _sample_chunk(self, chunk: ScheduledChunk, row: int) -> list[int]:
        guesses = chunk.tokens[len(chunk.tokens) - chunk.num_draft :]
        return (
            [guesses[0], self._sample(chunk.sequence, row + 1, guesses[:1])]
            if guesses
            else super()._sample_chunk(chunk, row)
        )


def ambiguous_prompt(sentence: str) -> list[int]:
    """After the sentence's first word, which comes in it twice, there is something to guess, and a choice."""
    with Vocabulary(_BUILTIN) as vocabulary:
        return vocabulary.tokenize(_PROMPT.format(sentence, sentence.split()[0]), parse_special=True)


@contextmanager
def opened(runner: type[LlamaRunner], *, guesses: bool) -> Iterator[Engine]:
    """Guesses are free, so there are many."""
    with runner(_BUILTIN, _PARAMS) as opened:
        limits = opened.limits._replace(step_cost=FREE)
        scheduler = Scheduler(limits, opened.end_tokens)
        yield Engine(scheduler, opened, min(opened.end_tokens), prefill_budget=PrefillBudget(64), prompt_lookup=guesses)


class Told(NamedTuple):
    tokens: list[int]
    logprobs: list[TokenLogprobs]


def answers(
    engine: Engine, prompt: list[int], samplings: Sequence[SamplingParams], num_tokens: int = NUM_TOKENS
) -> list[Told]:
    """One for each sampling, asked all together."""
    told = [Told([], []) for _ in samplings]
    for id, sampling in enumerate(samplings):
        engine.add(Generate(id, prompt, num_tokens, sampling))
    while not engine.is_idle:
        for delta in engine.step():
            assert delta.error is None
            told[delta.id].tokens.extend(delta.tokens)
            told[delta.id].logprobs.extend(delta.logprobs)
    return told


def drawn(runner: type[LlamaRunner], prompt: list[int], numbers: range, *, guesses: bool) -> Counter[Answer]:
    """One answer for each number, which stands for a seed: the seeds of neighbours have nothing in common."""
    samplings = [SamplingParams(temperature=1.2, seed=zlib.crc32(b"%d" % number)) for number in numbers]
    with opened(runner, guesses=guesses) as engine:
        return Counter(tuple(told.tokens) for told in answers(engine, prompt, samplings))


def beginnings(answers: Counter[Answer], size: int) -> Counter[Answer]:
    found: Counter[Answer] = Counter()
    for answer, count in answers.items():
        found[answer[:size]] += count
    return found


def likelihood(one: Counter[Answer], other: Counter[Answer]) -> float:
    """That both are of one distribution (chi-square test of two samples; what is rare is counted together)."""
    common = [answer for answer in one | other if one[answer] + other[answer] >= _RARE]
    rows = [[count[answer] for answer in common] for count in (one, other)]
    for row, count in zip(rows, (one, other), strict=True):
        row.append(count.total() - sum(row))
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    return float(chi2_contingency(rows).pvalue) if len(rows[0]) > 1 else 1.0
