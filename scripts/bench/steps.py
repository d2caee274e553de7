"""What a step of the engine costs beside llama.cpp's own work, and what guessing tokens brings.

    GOMP_SPINCOUNT=1000 .venv/bin/python scripts/bench/steps.py --model FILE.gguf [--rounds 5]

Weights may be random: every forward pass is real, and the tokens drawn are those of a given answer, so that one can
measure an answer that copies its prompt and one that does not, with any model. The texts are this project's manual:
the prompt is a few of its sections; the copying answer quotes sentences of them in another order; the other answer is
a section that is not in the prompt.
"""

import argparse
import os
import platform
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from index.reading.lines import unwrap
from models.llm.constraints.forms import JsonSchema
from models.llm.constraints.grammar import Grammar
from models.llm.constraints.grammar_tokenizer import GrammarTokenizer
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Generate
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.engine.sequence import Sequence
from models.llm.llama import runner as llama
from models.llm.llama.runner import LlamaRunner
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams, SamplingParams
from models.threads import num_physical_cores

MANUAL = Path(__file__).parents[2] / "docs"
FORM = JsonSchema('{"type": "array", "items": {"type": "string", "maxLength": 400}, "minItems": 50}')  # goes on
GREEDY = SamplingParams(temperature=0)


class Dictated(LlamaRunner):
    """Computes everything and draws what it is told: `answers` by sequence id."""

    answers: dict[int, list[int]]

    def _sample(self, sequence: Sequence, row: int, accepted: list[int]) -> int:
        token = super()._sample(sequence, row, accepted)
        answer = self.answers.get(sequence.id)
        return token if answer is None else answer[(sequence.num_generated + len(accepted)) % len(answer)]


class Timed:
    """llama.cpp's functions, and the seconds spent in them."""

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


def texts(vocabulary: Vocabulary) -> tuple[list[int], list[int], list[int]]:
    """The prompt, the answer that copies it, and the one that does not, as tokens."""
    read = {name: (MANUAL / f"{name}.md").read_text() for name in ("folders", "offline", "trouble", "architecture")}
    prompt = unwrap("\n\n".join((read["folders"], read["offline"], read["trouble"]))).text[:6000]
    sentences = re.findall(r"[A-Z][^.|#\n]{40,200}\.", prompt)
    copied = "The sources say: " + " ".join(f"{sentence} [{i % 3 + 1}]" for i, sentence in enumerate(sentences[::-3]))

    def tokens(text: str) -> list[int]:
        return vocabulary.tokenize(text, parse_special=False)

    return tokens(prompt), tokens(copied), tokens(unwrap(read["architecture"][3000:]).text)


def run(runner: Dictated, requests: list[tuple[list[int], list[int]]], num_tokens: int, *, lookup: bool) -> float:
    """Tokens a second of all requests together, from the moment all prompts are read."""
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
    unread = set(runner.answers)
    while unread and not engine.is_idle:
        unread -= {delta.id for delta in engine.step()}
    started, counted = time.perf_counter(), 0
    while not engine.is_idle:
        counted += sum(len(delta.tokens) for delta in engine.step())
    elapsed = time.perf_counter() - started
    for slot in range(runner.limits.num_sequences):
        llama.C.llama_memory_seq_rm(runner._memory, slot, 0, -1)
    return counted / elapsed


def lookup_rows(runner: Dictated, vocabulary: Vocabulary, rounds: int, num_tokens: int) -> Iterator[str]:
    prompt, copying, other = texts(vocabulary)
    for streams in (1, 4):
        for name, answer in (("copies", copying), ("does not copy", other)):
            figures: dict[bool, list[float]] = {True: [], False: []}
            for turn in range(rounds):
                for lookup in (True, False) if turn % 2 else (False, True):
                    requests = [(prompt, answer[offset * 40 :]) for offset in range(streams)]
                    figures[lookup].append(run(runner, requests, num_tokens, lookup=lookup))
            on, off = (statistics.median(figures[lookup]) for lookup in (True, False))
            yield f"| answer that {name}, {streams} streams | {on:.1f} | {off:.1f} | {on / off:.2f} |"


def python_share(runner: Dictated, vocabulary: Vocabulary, streams: int) -> tuple[float, float]:
    """Of the steps' time, the share outside llama.cpp; and milliseconds of it a step."""
    prompt, _, other = texts(vocabulary)
    timed = Timed(llama.C)
    engine = Engine(
        Scheduler(runner.limits, frozenset()), runner, 0, prefill_budget=PrefillBudget(runner.limits.n_batch)
    )
    runner.answers = {id: other[id * 40 :] for id in range(streams)}
    for id in range(streams):
        engine.add(Generate(id, prompt[:200], 150, GREEDY))
    while len(engine.step()) < streams:
        pass
    llama.C, plain = timed, llama.C
    try:
        started = time.perf_counter()
        steps = 0
        while not engine.is_idle:
            engine.step()
            steps += 1
        elapsed = time.perf_counter() - started
    finally:
        llama.C = plain
    for slot in range(runner.limits.num_sequences):
        llama.C.llama_memory_seq_rm(runner._memory, slot, 0, -1)
    return 1 - timed.seconds / elapsed, 1000 * (elapsed - timed.seconds) / steps


def constrained(runner: Dictated, vocabulary: Vocabulary, streams: int, num_tokens: int) -> tuple[float, float]:
    """Tokens a second of answers held to a schema, and of the same number of answers that are free."""
    tokenizer = GrammarTokenizer(vocabulary)
    prompt, _, other = texts(vocabulary)
    rates = []
    for form in (FORM, None):
        engine = Engine(
            Scheduler(runner.limits, frozenset()), runner, 0, prefill_budget=PrefillBudget(256), prompt_lookup=False
        )
        runner.answers = {} if form else dict.fromkeys(range(streams), other)
        for id in range(streams):
            engine.add(Generate(id, prompt[id : id + 64], num_tokens, GREEDY), form and Grammar(tokenizer, form))
        while not engine.step():
            pass
        started, counted = time.perf_counter(), 0
        while not engine.is_idle:
            counted += sum(len(delta.tokens) for delta in engine.step())
        rates.append(counted / (time.perf_counter() - started))
        for slot in range(runner.limits.num_sequences):
            llama.C.llama_memory_seq_rm(runner._memory, slot, 0, -1)
    return rates[0], rates[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96)
    options = parser.parse_args()
    if os.environ.get("GOMP_SPINCOUNT") != "1000":
        parser.error("set GOMP_SPINCOUNT=1000, as the server does for its engine")
    print(f"{platform.machine()}, {num_physical_cores()} cores, load {os.getloadavg()[0]:.1f}")
    params = EngineParams(n_ctx=8192, num_slots=8)
    with Vocabulary(options.model) as vocabulary, Dictated(options.model, params) as runner:
        for streams in (1, 8):
            share, each = python_share(runner, vocabulary, streams)
            print(f"Python's share of a step, {streams} streams: {share:.2%} ({each:.2f} ms)", flush=True)
        for streams in (1, 8):
            held, free = constrained(runner, vocabulary, streams, options.tokens)
            print(f"Held to a schema, {streams} streams: {held:.1f} tokens/s, free {free:.1f}", flush=True)
        print("| tokens/s | with prompt lookup | without | ratio |\n| --- | --- | --- | --- |")
        for row in lookup_rows(runner, vocabulary, options.rounds, options.tokens):
            print(row, flush=True)


if __name__ == "__main__":
    main()
