"""Answers of the built-in model with and without drafts, and a test that both are of one distribution.

Used by tests/models/llm/engine/test_speculative_decoding.py and scripts/prove/drafts.py.
"""

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

NO_DRAFT_COST = StepCost((1.0,), 1, 0.0)  # a draft of any length is worth its places

FALSE_ALARM = 1e-6  # the probability that equal distributions are called different
NUM_TOKENS = 4  # of an answer

_BUILTIN = resolve_chat("reader-v1").path
_PARAMS = EngineParams(n_ctx=256, num_slots=8, n_batch=64, num_threads=1)
_PROMPT = "<|user|>\n[1] a.md\n{0} {0} {0}\n\nQuestion: {0}<|end|>\n<|assistant|>\n{0} {1}"
_MIN_COUNT = 20  # answers that are rarer are counted together

AnswerTokens = tuple[int, ...]


class UnverifiedDraftRunner(LlamaRunner):
    """Accepts the first token of every draft without verifying it: the control that the statistic must notice."""

    def _sample_chunk(self, chunk: ScheduledChunk, row: int) -> list[int]:
        draft = chunk.tokens[len(chunk.tokens) - chunk.num_draft :]
        if not draft:
            return super()._sample_chunk(chunk, row)
        return [draft[0], self._sample(chunk.sequence, row + 1, draft[:1])]


def ambiguous_prompt(sentence: str) -> list[int]:
    """Return a prompt that ends with the sentence's first word, which comes twice in it, with different followers."""
    with Vocabulary(_BUILTIN) as vocabulary:
        return vocabulary.tokenize(_PROMPT.format(sentence, sentence.split()[0]), parse_special=True)


@contextmanager
def open_engine(runner_type: type[LlamaRunner], *, prompt_lookup: bool) -> Iterator[Engine]:
    """Open an engine in which drafts cost nothing, so that there are many."""
    with runner_type(_BUILTIN, _PARAMS) as runner:
        scheduler = Scheduler(runner.limits._replace(step_cost=NO_DRAFT_COST), runner.end_tokens)
        end_token, prefill_budget = min(runner.end_tokens), PrefillBudget(64)
        yield Engine(scheduler, runner, end_token, prefill_budget=prefill_budget, prompt_lookup=prompt_lookup)


class GeneratedAnswer(NamedTuple):
    tokens: list[int]
    logprobs: list[TokenLogprobs]


def generate_answers(
    engine: Engine, prompt: list[int], samplings: Sequence[SamplingParams], num_tokens: int = NUM_TOKENS
) -> list[GeneratedAnswer]:
    """Return one answer for each sampling; all are requested together."""
    answers = [GeneratedAnswer([], []) for _ in samplings]
    for id, sampling in enumerate(samplings):
        engine.add(Generate(id, prompt, num_tokens, sampling))
    while not engine.is_idle:
        for delta in engine.step():
            assert delta.error is None
            answers[delta.id].tokens.extend(delta.tokens)
            answers[delta.id].logprobs.extend(delta.logprobs)
    return answers


def count_answers(
    runner_type: type[LlamaRunner], prompt: list[int], numbers: range, *, prompt_lookup: bool
) -> Counter[AnswerTokens]:
    """Count answers, one for each number; a hash of the number is the seed, so that neighbours have unrelated seeds."""
    samplings = [SamplingParams(temperature=1.2, seed=zlib.crc32(b"%d" % number)) for number in numbers]
    with open_engine(runner_type, prompt_lookup=prompt_lookup) as engine:
        return Counter(tuple(answer.tokens) for answer in generate_answers(engine, prompt, samplings))


def count_beginnings(answers: Counter[AnswerTokens], num_tokens: int) -> Counter[AnswerTokens]:
    beginnings: Counter[AnswerTokens] = Counter()
    for answer, count in answers.items():
        beginnings[answer[:num_tokens]] += count
    return beginnings


def p_value(one: Counter[AnswerTokens], other: Counter[AnswerTokens]) -> float:
    """Return the p-value of a chi-square test that both samples are of one distribution."""
    common = [answer for answer in one | other if one[answer] + other[answer] >= _MIN_COUNT]
    rows = [[count[answer] for answer in common] for count in (one, other)]
    for row, count in zip(rows, (one, other), strict=True):
        row.append(count.total() - sum(row))
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    return float(chi2_contingency(rows).pvalue) if len(rows[0]) > 1 else 1.0
