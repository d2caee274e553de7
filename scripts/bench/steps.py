"""Measure what a step of the engine costs beside llama.cpp's own work, and what prompt lookup brings.

    GOMP_SPINCOUNT=1000 .venv/bin/python scripts/bench/steps.py --model FILE.gguf [--rounds 5]

Weights may be random: every forward pass is real, but the sampled tokens are replaced by those of a given answer. So an
answer that copies its prompt and one that does not can be measured with any model. The texts are this project's manual:
the prompt is a few of its sections; the copying answer quotes their sentences in another order; the other answer is a
section that is not in the prompt.
"""

import argparse
import os
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as C
import measurement

from index.reading.lines import unwrap
from models.llm.constraints.forms import JsonSchema
from models.llm.constraints.grammar import Grammar
from models.llm.constraints.grammar_tokenizer import GrammarTokenizer
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Generate
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import Sequence
from models.llm.llama import runner as llama_runner
from models.llm.llama.runner import LlamaRunner
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams, SamplingParams

MANUAL = Path(__file__).parents[2] / "docs"
FORM = JsonSchema('{"type": "array", "items": {"type": "string", "maxLength": 400}, "minItems": 50}')  # a long answer
GREEDY = SamplingParams(temperature=0)


class ScriptedAnswerRunner(LlamaRunner):
    """Computes everything, and samples the tokens of given answers. `answers`: by sequence id."""

    answers: dict[int, list[int]]

    def _sample(self, sequence: Sequence, row: int, accepted: list[int]) -> int:
        token = super()._sample(sequence, row, accepted)
        answer = self.answers.get(sequence.id)
        return token if answer is None else answer[(sequence.num_generated + len(accepted)) % len(answer)]


class TimedLibrary:
    """llama.cpp's functions; `seconds`: the time spent in them."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        if not name.startswith("llama_") or not callable(function) or isinstance(function, type):
            return function

        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            self.seconds += time.perf_counter() - started
            return result

        setattr(self, name, timed)
        return timed


def clear_memory(runner: LlamaRunner) -> None:
    for slot in range(runner.limits.num_sequences):
        C.llama_memory_seq_rm(runner._memory, slot, 0, -1)


def texts(vocabulary: Vocabulary) -> tuple[list[int], list[int], list[int]]:
    """Return the prompt, the answer that copies it, and the one that does not, as tokens."""
    pages = {name: (MANUAL / f"{name}.md").read_text() for name in ("folders", "offline", "trouble", "architecture")}
    prompt = unwrap("\n\n".join((pages["folders"], pages["offline"], pages["trouble"]))).text[:6000]
    sentences = re.findall(r"[A-Z][^.|#\n]{40,200}\.", prompt)
    copying = "The sources say: " + " ".join(f"{sentence} [{i % 3 + 1}]" for i, sentence in enumerate(sentences[::-3]))

    def tokens(text: str) -> list[int]:
        return vocabulary.tokenize(text, parse_special=False)

    return tokens(prompt), tokens(copying), tokens(unwrap(pages["architecture"][3000:]).text)


def tokens_per_second(
    runner: ScriptedAnswerRunner, requests: list[tuple[list[int], list[int]]], num_tokens: int, *, lookup: bool
) -> float:
    """Return the tokens per second of all requests together, after the prefill of all prompts."""
    engine = Engine(
        Scheduler(runner.limits, frozenset()),
        runner,
        0,
        prefill_budget=PrefillBudget(runner.limits.n_batch),
        prompt_lookup=lookup,
    )
    runner.answers = {id: answer for id, (_, answer) in enumerate(requests)}
    for id, (prompt, _) in enumerate(requests):
        engine.add(Generate(id, prompt, num_tokens, GREEDY))
    prefilling = set(runner.answers)
    while prefilling and not engine.is_idle:
        prefilling -= {delta.id for delta in engine.step()}
    started, num_generated = time.perf_counter(), 0
    while not engine.is_idle:
        num_generated += sum(len(delta.tokens) for delta in engine.step())
    elapsed = time.perf_counter() - started
    clear_memory(runner)
    return num_generated / elapsed


def lookup_rows(runner: ScriptedAnswerRunner, vocabulary: Vocabulary, rounds: int, num_tokens: int) -> Iterator[str]:
    prompt, copying, other = texts(vocabulary)
    for streams in (1, 4):
        for name, answer in (("copies", copying), ("does not copy", other)):
            figures: dict[bool, list[float]] = {True: [], False: []}
            for lookup in measurement.take_turns((True, False), rounds):
                requests = [(prompt, answer[offset * 40 :]) for offset in range(streams)]
                figures[lookup].append(tokens_per_second(runner, requests, num_tokens, lookup=lookup))
            on, off = (statistics.median(figures[lookup]) for lookup in (True, False))
            yield f"| answer that {name}, {streams} streams | {on:.1f} | {off:.1f} | {on / off:.2f} |"


def python_share(runner: ScriptedAnswerRunner, vocabulary: Vocabulary, streams: int) -> tuple[float, float]:
    """Return the share of the steps' time that is spent outside llama.cpp, and its milliseconds per step."""
    prompt, _, other = texts(vocabulary)
    library = TimedLibrary(C)
    engine = Engine(
        Scheduler(runner.limits, frozenset()), runner, 0, prefill_budget=PrefillBudget(runner.limits.n_batch)
    )
    runner.answers = {id: other[id * 40 :] for id in range(streams)}
    for id in range(streams):
        engine.add(Generate(id, prompt[:200], 150, GREEDY))
    while len(engine.step()) < streams:
        pass
    setattr(llama_runner, "C", library)  # noqa: B010
    try:
        started = time.perf_counter()
        steps = 0
        while not engine.is_idle:
            engine.step()
            steps += 1
        elapsed = time.perf_counter() - started
    finally:
        setattr(llama_runner, "C", C)  # noqa: B010
    clear_memory(runner)
    return 1 - library.seconds / elapsed, 1000 * (elapsed - library.seconds) / steps


def constrained_rates(
    runner: ScriptedAnswerRunner, vocabulary: Vocabulary, streams: int, num_tokens: int
) -> tuple[float, float]:
    """Return the tokens per second of answers constrained to a schema, and of as many unconstrained answers."""
    tokenizer = GrammarTokenizer(vocabulary)
    prompt, _, other = texts(vocabulary)
    rates = []
    for form in (FORM, None):
        engine = Engine(
            Scheduler(runner.limits, frozenset()), runner, 0, prefill_budget=PrefillBudget(256), prompt_lookup=False
        )
        runner.answers = {} if form else dict.fromkeys(range(streams), other)
        for id in range(streams):
            engine.add(
                Generate(id, prompt[id : id + 64], num_tokens, GREEDY), Grammar(tokenizer, form) if form else None
            )
        while not engine.step():
            pass
        started, num_generated = time.perf_counter(), 0
        while not engine.is_idle:
            num_generated += sum(len(delta.tokens) for delta in engine.step())
        rates.append(num_generated / (time.perf_counter() - started))
        clear_memory(runner)
    return rates[0], rates[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96)
    options = parser.parse_args()
    if os.environ.get("GOMP_SPINCOUNT") != "1000":
        parser.error("set GOMP_SPINCOUNT=1000, as the server does for its engine")
    measurement.print_machine()
    params = EngineParams(n_ctx=8192, num_slots=8)
    with Vocabulary(options.model) as vocabulary, ScriptedAnswerRunner(options.model, params) as runner:
        for streams in (1, 8):
            share, step_ms = python_share(runner, vocabulary, streams)
            print(f"Python's share of a step, {streams} streams: {share:.2%} ({step_ms:.2f} ms)", flush=True)
        for streams in (1, 8):
            constrained, free = constrained_rates(runner, vocabulary, streams, options.tokens)
            print(
                f"Constrained to a schema, {streams} streams: {constrained:.1f} tokens/s, unconstrained {free:.1f}",
                flush=True,
            )
        print("| tokens/s | with prompt lookup | without | ratio |\n| --- | --- | --- | --- |")
        for row in lookup_rows(runner, vocabulary, options.rounds, options.tokens):
            print(row, flush=True)


if __name__ == "__main__":
    main()
