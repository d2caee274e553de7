"""Guessing tokens from the prompt leaves the distribution of answers as it is, measured on the built-in model.

    .venv/bin/python scripts/prove/drafts.py [--seeds 2000] [--prompts 6] [--greedy 40]

Prompts after which there is something to guess and a choice: many seeds answer each with guesses, and as many others
without. The first one, two, three and four tokens are compared (chi-square test of two samples, rare answers counted
together); the chance that any of all these comparisons fails by bad luck is one in a million. So that the statistic is
known to see something, a runner that believes its first guess must fail it on every prompt. Greedy answers must be the
same with and without; where they part, the two tokens must be as likely as each other but for rounding. Ends with
status 1 when something does not hold.
"""

import argparse
import os
import platform
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from models.llm.engine.step import Step
from models.llm.llama.runner import LlamaRunner
from models.llm.params import SamplingParams
from tests.models.guessing import (
    FALSE_ALARM,
    NUM_TOKENS,
    Answer,
    Gullible,
    Told,
    ambiguous_prompt,
    answers,
    beginnings,
    drawn,
    likelihood,
    opened,
)

_SENTENCES = [
    "Parental leave is sixteen weeks. Parental time is long.",
    "Laptops are replaced after four years. Laptops stay at work.",
    "Trains come first. Trains stop at noon. Flights need approval.",
    "A note goes to your team before ten. A call is not enough.",
    "Backups are kept for thirty days. Backups run at night.",
    "Visitors wear blue badges. Visitors sign in at the desk.",
]
_ROUNDING = 0.1  # most that a batch's shape may change a log probability of this model, see scripts/prove/seeds.py
_GREEDY_TOKENS = 60


class Counting(LlamaRunner):
    """Counts the guesses that were checked, and those that held."""

    num_guesses = num_held = 0

    def compute(self, step: Step) -> list[list[int]]:
        drawn = super().compute(step)
        Counting.num_guesses += sum(chunk.num_draft for chunk in step.chunks)
        Counting.num_held += sum(len(tokens) - 1 for tokens in drawn if tokens)
        return drawn


def least_likelihood(one: Counter[Answer], other: Counter[Answer]) -> float:
    """Of all lengths of beginnings."""
    return min(likelihood(beginnings(one, size), beginnings(other, size)) for size in range(1, NUM_TOKENS + 1))


def prove_draws(sentence: str, num_seeds: int, false_alarm: float) -> list[str]:
    prompt, seeds, others = ambiguous_prompt(sentence), range(num_seeds), range(num_seeds, 2 * num_seeds)
    Counting.num_guesses = Counting.num_held = 0
    without = drawn(LlamaRunner, prompt, others, guesses=False)
    same = least_likelihood(drawn(Counting, prompt, seeds, guesses=True), without)
    believed = least_likelihood(drawn(Gullible, prompt, seeds, guesses=True), without)
    num_guesses, num_held = Counting.num_guesses, Counting.num_held
    print(f"{len(without):7}{num_guesses:9}{num_held:9}{same:12.2g}{believed:12.2g}  {sentence}", flush=True)
    problems = []
    if not 0 < num_held < num_guesses:
        problems.append(f"nothing was guessed at, or nothing refused: {sentence}")
    if same < false_alarm:
        problems.append(f"another distribution with guesses, p = {same:.2g}: {sentence}")
    if believed > false_alarm:
        problems.append(f"a believed guess goes unnoticed, p = {believed:.2g}: {sentence}")
    return problems


def parts(one: Told, other: Told) -> float | None:
    """Where two greedy answers part, how much likelier the first one's token was than the second's, or the other way
    round, whichever is more (natural logarithm); None where they do not."""
    at = next((i for i, pair in enumerate(zip(one.tokens, other.tokens, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        return None if len(one.tokens) == len(other.tokens) else float("inf")
    gaps = [
        told.logprobs[at].logprob - dict(told.logprobs[at].top).get(wanted, float("-inf"))
        for told, wanted in ((one, other.tokens[at]), (other, one.tokens[at]))
    ]
    return max(gaps)


def prove_greedy(num_prompts: int) -> list[str]:
    greedy, num_same, problems = [SamplingParams(temperature=0, num_logprobs=20)], 0, []
    Counting.num_guesses = Counting.num_held = 0
    for number in range(num_prompts):
        prompt = ambiguous_prompt(_SENTENCES[number % len(_SENTENCES)])
        prompt = prompt[: len(prompt) - number // len(_SENTENCES)]
        with opened(Counting, guesses=True) as engine:
            (guessed,) = answers(engine, prompt, greedy, _GREEDY_TOKENS)
        with opened(LlamaRunner, guesses=False) as engine:
            (plain,) = answers(engine, prompt, greedy, _GREEDY_TOKENS)
        gap = parts(guessed, plain)
        num_same += gap is None
        if gap is not None and gap > _ROUNDING:
            problems.append(f"greedy answer {number} is another with guesses; one token was {gap:.2g} likelier")
    held = f"{Counting.num_held} of {Counting.num_guesses} guesses held"
    print(f"greedy: {num_same} of {num_prompts} answers the same with guesses and without; {held}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--prompts", type=int, default=len(_SENTENCES), choices=range(1, len(_SENTENCES) + 1))
    parser.add_argument("--greedy", type=int, default=40)
    options = parser.parse_args()
    started, problems = time.perf_counter(), list[str]()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    false_alarm = FALSE_ALARM / (options.prompts * NUM_TOKENS)
    print(f"{options.seeds} seeds each; the two differ below p = {false_alarm:.2g}")
    print(f"{'answers':>7}{'guesses':>9}{'held':>9}{'p':>12}{'p believed':>12}")
    for sentence in _SENTENCES[: options.prompts]:
        problems += prove_draws(sentence, options.seeds, false_alarm)
    problems += prove_greedy(options.greedy)
    print(("\n".join(problems) or "all of it holds") + f"; {time.perf_counter() - started:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
