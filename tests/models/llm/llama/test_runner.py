"""The runner with the built-in model: answers do not depend on batches, caches, drafts or preemption."""

import contextlib
import math
from collections.abc import Iterator

import pytest

from models.catalog import resolve_chat
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Delta, Generate, TokenLogprobs
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import FinishReason
from models.llm.llama.runner import LlamaRunner
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams, SamplingParams

BUILTIN = resolve_chat("reader-v1").path
N_CTX = 128
PARAMS = EngineParams(n_ctx=N_CTX, num_slots=8, n_batch=64, num_threads=1)
GREEDY = SamplingParams(temperature=0)
SAMPLED = SamplingParams(temperature=1.5, seed=7)
QUESTION = "<|user|>\nQuestion: {1}\n\n[1] leave.md\n{0}\n\nQuestion: {1}<|end|>\n<|assistant|>\n"
FACTS = [
    ("Backups are kept for 30 days.", "How long are backups kept?"),
    ("The office opens at eight.", "When does the office open?"),
    ("Trains are booked by the travel desk.", "Who books trains?"),
    ("Parental leave is 16 weeks.", "How long is parental leave?"),
    ("Badges are blue for visitors.", "Which colour are badges?"),
    ("The canteen is closed on Fridays.", "When is the canteen closed?"),
    ("Laptops are replaced every four years.", "How often are laptops replaced?"),
    ("The printer is on the second floor.", "Where is the printer?"),
]


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[Vocabulary]:
    with Vocabulary(BUILTIN) as vocabulary:
        yield vocabulary


@contextlib.contextmanager
def open_engine(num_cells: int = 2 * N_CTX, *, prompt_lookup: bool = True) -> Iterator[Engine]:
    with LlamaRunner(BUILTIN, PARAMS) as runner:
        limits = runner.limits._replace(num_cells=num_cells)
        yield Engine(
            Scheduler(limits, runner.end_tokens),
            runner,
            min(runner.end_tokens),
            prefill_budget=PrefillBudget(limits.n_batch),
            prompt_lookup=prompt_lookup,
        )


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One engine for all tests: what an earlier request has left must not change an answer."""
    with open_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def prompts(vocabulary: Vocabulary) -> list[list[int]]:
    return [vocabulary.tokenize(QUESTION.format(*fact), parse_special=True) for fact in FACTS]


class Answers:
    def __init__(self, deltas: list[Delta]) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.logprobs: dict[int, list[TokenLogprobs]] = {}
        self.num_cached = {delta.id: delta.num_cached for delta in deltas}
        self.ends: dict[int, FinishReason | str | None] = {}
        for delta in deltas:
            self.tokens.setdefault(delta.id, []).extend(delta.tokens)
            self.logprobs.setdefault(delta.id, []).extend(delta.logprobs)
            if delta.is_last:
                self.ends[delta.id] = delta.finish_reason or delta.error


def answer(
    engine: Engine,
    prompts: list[list[int]],
    sampling: SamplingParams = GREEDY,
    *,
    max_tokens: int = 24,
    choices: list[list[int]] | None = None,
) -> Answers:
    """Return answers by the prompts' indexes. All prompts are requested together."""
    for id, prompt in enumerate(prompts):
        engine.add(Generate(id, prompt, max_tokens, sampling, choices))
    deltas: list[Delta] = []
    while not engine.is_idle:
        deltas += engine.step()
    return Answers(deltas)


def test_a_question_is_answered_with_its_source(
    engine: Engine, vocabulary: Vocabulary, prompts: list[list[int]]
) -> None:
    answers = answer(engine, prompts[:1])
    assert "30 days. [1]" in b"".join(map(vocabulary.piece, answers.tokens[0])).decode()
    assert answers.ends[0] is FinishReason.STOP


def test_concurrent_requests_do_not_change_a_greedy_answer(engine: Engine, prompts: list[list[int]]) -> None:
    together = answer(engine, prompts)
    for id, prompt in enumerate(prompts):
        alone = answer(engine, [prompt])
        assert (together.tokens[id], together.ends[id]) == (alone.tokens[0], alone.ends[0])
    assert len({tuple(tokens) for tokens in together.tokens.values()}) == len(prompts)


def test_preemption_does_not_change_a_greedy_answer(engine: Engine, prompts: list[list[int]]) -> None:
    with open_engine(num_cells=N_CTX) as small_engine:
        assert answer(small_engine, prompts).tokens == answer(engine, prompts).tokens


def test_a_warm_cache_does_not_change_a_greedy_answer(engine: Engine, prompts: list[list[int]]) -> None:
    first = answer(engine, prompts[:2])
    second_turns = [[*prompts[id], *first.tokens[id], *prompts[2 + id]] for id in range(2)]
    warm = answer(engine, second_turns)
    with open_engine() as cold_engine:
        cold = answer(cold_engine, second_turns)
    assert warm.tokens == cold.tokens
    assert all(warm.num_cached[id] >= len(prompts[id]) > cold.num_cached[id] for id in range(2))


def test_prompt_lookup_does_not_change_a_greedy_answer(engine: Engine, prompts: list[list[int]]) -> None:
    with open_engine(prompt_lookup=False) as engine_without_lookup:
        assert answer(engine, prompts).tokens == answer(engine_without_lookup, prompts).tokens


def sample_with_new_engine(prompts: list[list[int]], seed: int | None) -> dict[int, list[int]]:
    """Sample answers with a new engine: with a warm prefix cache batches have other shapes, and so other rounding."""
    with open_engine() as engine:
        return answer(engine, prompts, SamplingParams(temperature=1.5, seed=seed)).tokens


def test_the_same_seed_samples_the_same_tokens(prompts: list[list[int]]) -> None:
    assert sample_with_new_engine(prompts, 7) == sample_with_new_engine(prompts, 7)


@pytest.mark.parametrize("seed", [8, None])
def test_another_seed_or_none_samples_other_tokens(prompts: list[list[int]], seed: int | None) -> None:
    assert sample_with_new_engine(prompts, 7) != sample_with_new_engine(prompts, seed)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=1.5, top_k=1),
        SamplingParams(temperature=1.5, top_p=0.0),
        SamplingParams(temperature=1.5, min_p=1.0),
        SamplingParams(temperature=0.001, seed=3),
        SamplingParams(temperature=1e-45, min_p=1e-300, seed=3),
    ],
    ids=["top_k", "top_p", "min_p", "temperature", "tiny temperature"],
)
def test_sampling_from_one_remaining_token_is_greedy(
    engine: Engine, prompts: list[list[int]], sampling: SamplingParams
) -> None:
    assert answer(engine, prompts[:2], sampling).tokens == answer(engine, prompts[:2]).tokens


def test_a_large_logit_bias_decides_the_next_token(engine: Engine, prompts: list[list[int]]) -> None:
    answers = answer(engine, prompts[:1], SamplingParams(temperature=0, logit_bias={500: 1000.0}), max_tokens=3)
    assert answers.tokens[0] == [500, 500, 500]
    assert answers.ends[0] is FinishReason.LENGTH


def test_a_logit_bias_for_an_unknown_token_is_ignored(engine: Engine, prompts: list[list[int]]) -> None:
    unknown = SamplingParams(temperature=0, logit_bias={-1: 100.0, 8192: 100.0, 2**40: 100.0})
    assert answer(engine, prompts[:1], unknown).tokens == answer(engine, prompts[:1]).tokens


def test_a_presence_penalty_prevents_repeated_tokens(engine: Engine, prompts: list[list[int]]) -> None:
    biased = dict.fromkeys(range(3000, 3003), 1000.0)
    once = SamplingParams(temperature=0, logit_bias=biased, presence_penalty=100.0)
    assert len(set(answer(engine, prompts[:1], once, max_tokens=3).tokens[0])) == 3


OVERFLOWING = SamplingParams(temperature=1, repeat_penalty=0.01, logit_bias=dict.fromkeys(range(4000), 1e308))


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, OVERFLOWING], ids=["greedy", "sampled", "overflowing"])
def test_a_guided_choice_is_one_of_the_choices(
    engine: Engine, vocabulary: Vocabulary, prompts: list[list[int]], sampling: SamplingParams
) -> None:
    choices = [vocabulary.tokenize(text, parse_special=False) for text in ("Yes", "Yes, but late", "No", "It depends")]
    answers = answer(engine, prompts, sampling, choices=choices)
    assert all(answers.tokens[id] in choices for id in range(len(prompts)))
    assert set(answers.ends.values()) == {FinishReason.STOP}


def test_logprobs_belong_to_the_tokens_and_are_sorted(engine: Engine, prompts: list[list[int]]) -> None:
    answers = answer(engine, prompts[:2], SamplingParams(temperature=0, num_logprobs=3))
    for id, tokens in answers.tokens.items():
        assert [each.token for each in answers.logprobs[id]] == tokens
        for each in answers.logprobs[id]:
            assert each.top[0] == (each.token, each.logprob)
            assert 0 >= each.top[0][1] >= each.top[1][1] >= each.top[2][1]
            assert sum(math.exp(logprob) for _, logprob in each.top) <= 1 + 1e-6


@pytest.mark.parametrize("token", [8192, -1])
def test_a_batch_with_an_unknown_token_fails_and_the_next_succeeds(
    engine: Engine, prompts: list[list[int]], token: int
) -> None:
    failed = answer(engine, [[5, token]])
    assert failed.tokens[0] == []
    assert "llama_decode" in str(failed.ends[0])
    assert answer(engine, prompts[:1]).ends[0] is FinishReason.STOP
