"""Prove that drafts of prompt lookup do not change the distribution of answers, on the built-in model.

    .venv/bin/python scripts/prove/drafts.py [--seeds 2000] [--prompts 6] [--greedy 40]

The prompts lead to drafts and leave a choice. Many seeds answer each prompt with drafts, and as many other seeds
without. The first one, two, three and four tokens are compared (chi-square test of two samples, rare answers counted
together); the probability that any of all these comparisons fails by chance is one in a million. As a control, a runner
that accepts the first token of every draft without verifying it must fail the test on every prompt. Greedy answers must
be the same with drafts and without; where they diverge, the two tokens must be equally likely up to rounding. The exit
status is 1 when something does not hold.
"""

import argparse
import sys
import time
from collections import Counter

import proof

from models.llm.engine.step import Step
from models.llm.llama.runner import LlamaRunner
from models.llm.params import SamplingParams
from tests.models.draft_comparison import (
    FALSE_ALARM,
    NUM_TOKENS,
    AnswerTokens,
    GeneratedAnswer,
    UnverifiedDraftRunner,
    ambiguous_prompt,
    count_answers,
    count_beginnings,
    generate_answers,
    open_engine,
    p_value,
)

_SENTENCES = [
    "Parental leave is sixteen weeks. Parental time is long.",
    "Laptops are replaced after four years. Laptops stay at work.",
    "Trains come first. Trains stop at noon. Flights need approval.",
    "A note goes to your team before ten. A call is not enough.",
    "Backups are kept for thirty days. Backups run at night.",
    "Visitors wear blue badges. Visitors sign in at the desk.",
]
_ROUNDING = 0.1  # most that a batch's shape changes a log-probability of this model; see scripts/prove/seeds.py
_GREEDY_TOKENS = 60


class CountingRunner(LlamaRunner):
    """Counts the draft tokens that were verified, and those that were accepted."""

    num_drafted = num_accepted = 0

    def compute(self, step: Step) -> list[list[int]]:
        sampled = super().compute(step)
        CountingRunner.num_drafted += sum(chunk.num_draft for chunk in step.chunks)
        CountingRunner.num_accepted += sum(len(tokens) - 1 for tokens in sampled if tokens)
        return sampled


def min_p_value(one: Counter[AnswerTokens], other: Counter[AnswerTokens]) -> float:
    """Return the lowest p-value of all lengths of beginnings."""
    return min(p_value(count_beginnings(one, size), count_beginnings(other, size)) for size in range(1, NUM_TOKENS + 1))


def prove_sampling(sentence: str, num_seeds: int, false_alarm: float) -> list[str]:
    prompt, seeds, other_seeds = ambiguous_prompt(sentence), range(num_seeds), range(num_seeds, 2 * num_seeds)
    CountingRunner.num_drafted = CountingRunner.num_accepted = 0
    without = count_answers(LlamaRunner, prompt, other_seeds, prompt_lookup=False)
    p = min_p_value(count_answers(CountingRunner, prompt, seeds, prompt_lookup=True), without)
    control_p = min_p_value(count_answers(UnverifiedDraftRunner, prompt, seeds, prompt_lookup=True), without)
    num_drafted, num_accepted = CountingRunner.num_drafted, CountingRunner.num_accepted
    print(f"{len(without):7}{num_drafted:9}{num_accepted:9}{p:12.2g}{control_p:12.2g}  {sentence}", flush=True)
    problems = []
    if not 0 < num_accepted < num_drafted:
        problems.append(f"no token was drafted, or none rejected: {sentence}")
    if p < false_alarm:
        problems.append(f"the distribution differs with drafts, p = {p:.2g}: {sentence}")
    if control_p > false_alarm:
        problems.append(f"unverified drafts go unnoticed, p = {control_p:.2g}: {sentence}")
    return problems


def divergence(one: GeneratedAnswer, other: GeneratedAnswer) -> float | None:
    """Return the gap in log-probability between the two tokens at which greedy answers diverge; None if they do not.

    It is the larger of the gaps in both answers, as natural logarithm.
    """
    at = next((i for i, pair in enumerate(zip(one.tokens, other.tokens, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        return None if len(one.tokens) == len(other.tokens) else float("inf")
    gaps = [
        answer.logprobs[at].logprob - dict(answer.logprobs[at].top).get(token, float("-inf"))
        for answer, token in ((one, other.tokens[at]), (other, one.tokens[at]))
    ]
    return max(gaps)


def prove_greedy(num_prompts: int) -> list[str]:
    greedy, num_same, problems = [SamplingParams(temperature=0, num_logprobs=20)], 0, []
    CountingRunner.num_drafted = CountingRunner.num_accepted = 0
    for number in range(num_prompts):
        prompt = ambiguous_prompt(_SENTENCES[number % len(_SENTENCES)])
        prompt = prompt[: len(prompt) - number // len(_SENTENCES)]
        with open_engine(CountingRunner, prompt_lookup=True) as engine:
            (drafted,) = generate_answers(engine, prompt, greedy, _GREEDY_TOKENS)
        with open_engine(LlamaRunner, prompt_lookup=False) as engine:
            (plain,) = generate_answers(engine, prompt, greedy, _GREEDY_TOKENS)
        gap = divergence(drafted, plain)
        num_same += gap is None
        if gap is not None and gap > _ROUNDING:
            problems.append(f"greedy answer {number} differs with drafts; one token was {gap:.2g} likelier")
    accepted = f"{CountingRunner.num_accepted} of {CountingRunner.num_drafted} draft tokens accepted"
    print(f"greedy: {num_same} of {num_prompts} answers the same with drafts and without; {accepted}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--prompts", type=int, default=len(_SENTENCES), choices=range(1, len(_SENTENCES) + 1))
    parser.add_argument("--greedy", type=int, default=40)
    options = parser.parse_args()
    started, problems = time.perf_counter(), list[str]()
    proof.print_machine()
    false_alarm = FALSE_ALARM / (options.prompts * NUM_TOKENS)
    print(f"{options.seeds} seeds each; the two differ below p = {false_alarm:.2g}")
    print(f"{'answers':>7}{'drafted':>9}{'accepted':>9}{'p':>12}{'p control':>12}")
    for sentence in _SENTENCES[: options.prompts]:
        problems += prove_sampling(sentence, options.seeds, false_alarm)
    problems += prove_greedy(options.greedy)
    print(f"{time.perf_counter() - started:.0f} s")
    return proof.exit_status(problems)


if __name__ == "__main__":
    sys.exit(main())
