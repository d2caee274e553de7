"""Measure how far the same seed gives the same answer: alone, among other requests, with a warm cache.

    .venv/bin/python scripts/prove/seeds.py [--model FILE.gguf] [--prompts 8] [--seeds 4] [--tokens 40] [--threads 1]

A sampled token depends on the seed and on the model's probabilities, and these depend on llama.cpp's sums, whose order
follows from the shape of a batch and from the positions of the cells before it. So each request is first answered alone
by an engine that has just started, and then again under other conditions. For each condition the script prints how many
answers have the same tokens, how many also have the same log-probabilities to the last bit, the largest difference of a
log-probability while the tokens are the same, and the number of common tokens where the answers differ. Greedy answers
are compared too.

A quantized model rounds its activations to 8 bits before every product, so the last digit of a sum becomes tenths of a
log-probability: as much as another word in the prompt changes. To show that rounding is the only cause, the conditions
are compared with the same weights in F32 too, where they must change far less than one changed token of the prompt
does. The exit status is 1 when they do not, or when the same condition does not give the same answer to the last bit.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import gguf
import numpy as np
from gguf.quants import dequantize

os.environ["GOMP_SPINCOUNT"] = "1000"  # as the engine's process has it; before libgomp is loaded

from models.catalog import resolve_chat
from models.llm.chat.messages import ChatMessage
from models.llm.engine.client import EngineClient
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Generate
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.llama.runner import LlamaRunner
from models.llm.local import LocalChatModel
from models.llm.params import EngineParams, SamplingParams

_NUM_OTHERS = 7
_ROUNDING = 0.2  # most that a condition changes a log-probability, weights in F32: four times the largest measured,
# an eighth of the effect of another token


class SeededAnswer(NamedTuple):
    tokens: list[int]
    logprobs: list[float]


class ModelUnderTest(NamedTuple):
    path: Path
    threads: int
    num_tokens: int  # of an answer
    other_prompts: list[list[int]]  # of requests at the same time

    @contextmanager
    def engine(self, *, threads: int = 0, prompt_lookup: bool = True) -> Iterator["AnsweringEngine"]:
        params = EngineParams(n_ctx=2048, num_threads=threads or self.threads)
        with LlamaRunner(self.path, params) as runner:
            scheduler = Scheduler(runner.limits, runner.end_tokens)
            prompt_lookup = prompt_lookup and runner.limits.supports_partial_removal
            prefill_budget = PrefillBudget(runner.limits.n_batch)
            engine = Engine(
                scheduler, runner, min(runner.end_tokens), prefill_budget=prefill_budget, prompt_lookup=prompt_lookup
            )
            yield AnsweringEngine(engine, dict.fromkeys(runner.end_tokens, -1000.0), self.num_tokens)


class AnsweringEngine:
    """An engine and the answers that it has given."""

    def __init__(self, engine: Engine, banned: dict[int, float], num_tokens: int) -> None:
        self._engine = engine
        self._banned = banned
        self._num_tokens = num_tokens
        self._answers: dict[int, SeededAnswer] = {}

    def add(self, prompt: list[int], seed: int, temperature: float) -> int:
        id = len(self._answers)
        self._answers[id] = SeededAnswer([], [])
        sampling = SamplingParams(temperature=temperature, seed=seed, logit_bias=self._banned, num_logprobs=0)
        assert not self._engine.add(Generate(id, prompt, self._num_tokens, sampling))
        return id

    def step(self) -> None:
        for delta in self._engine.step():
            assert delta.error is None, delta.error
            self._answers[delta.id].tokens.extend(delta.tokens)
            self._answers[delta.id].logprobs.extend(each.logprob for each in delta.logprobs)

    def answer(self, id: int) -> SeededAnswer:
        while not self._engine.is_idle:
            self.step()
        return self._answers[id]


class AnswerRequest(NamedTuple):
    prompt: list[int]
    seed: int
    temperature: float


def questions(model: Path, random: Random, count: int) -> list[list[int]]:
    """Return prompts of 50 to some 900 tokens: parts of this project's documentation, and a question."""
    texts = [path.read_text() for path in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))]

    def no_engine() -> EngineClient:
        raise AssertionError("only the vocabulary is used")

    with LocalChatModel("", model, no_engine) as chat_model:
        prompts = []
        for _ in range(count):
            text, size = random.choice(texts), random.choice([150, 600, 2400])
            start = random.randrange(max(len(text) - size, 1))
            content = f"[1] manual.md\n{text[start : start + size]}\n\nQuestion: what does the manual say here?"
            prompts.append(chat_model.prompt([ChatMessage.of_text("user", content)]).tokens)
        return prompts


def alone(model: ModelUnderTest, request: AnswerRequest) -> SeededAnswer:
    with model.engine() as engine:
        return engine.answer(engine.add(*request))


def one_more_thread(model: ModelUnderTest, request: AnswerRequest) -> SeededAnswer:
    with model.engine(threads=model.threads + 1) as engine:
        return engine.answer(engine.add(*request))


def without_drafts(model: ModelUnderTest, request: AnswerRequest) -> SeededAnswer:
    with model.engine(prompt_lookup=False) as engine:
        return engine.answer(engine.add(*request))


def warm_cache(model: ModelUnderTest, request: AnswerRequest) -> SeededAnswer:
    """Answer with all of the prompt but its last token in memory."""
    with model.engine() as engine:
        engine.answer(engine.add(*request))
        return engine.answer(engine.add(*request))


def half_warm_cache(model: ModelUnderTest, request: AnswerRequest) -> SeededAnswer:
    with model.engine() as engine:
        engine.answer(engine.add(request.prompt[: len(request.prompt) // 2], request.seed, request.temperature))
        return engine.answer(engine.add(*request))


def among_others(model: ModelUnderTest, request: AnswerRequest) -> SeededAnswer:
    """Answer while other requests run, and more of them come."""
    others = [AnswerRequest(prompt, number, 1.0) for number, prompt in enumerate(model.other_prompts)]
    with model.engine() as engine:
        for other in others[:4]:
            engine.add(*other)
        for _ in range(6):
            engine.step()
        id = engine.add(*request)
        engine.step()
        for other in others[4:]:
            engine.add(*other)
        return engine.answer(id)


def changed_prompt(model: ModelUnderTest, request: AnswerRequest) -> SeededAnswer:
    """Answer a prompt with another token in its middle: the least effect that a mix-up of tokens would have."""
    at = len(request.prompt) // 2
    return alone(
        model, request._replace(prompt=[*request.prompt[:at], request.prompt[at] ^ 1, *request.prompt[at + 1 :]])
    )


CONDITIONS: dict[str, Callable[[ModelUnderTest, AnswerRequest], SeededAnswer]] = {
    "alone, once more": alone,
    "with one more thread": one_more_thread,
    "without drafts": without_drafts,
    "prompt in memory": warm_cache,
    "half the prompt in memory": half_warm_cache,
    f"among {_NUM_OTHERS} others": among_others,
}


class AnswerComparison(NamedTuple):
    """An answer compared with the one that the request gets alone."""

    is_same: bool
    num_common: int  # tokens
    difference: float  # largest difference of a log-probability over the common tokens

    @classmethod
    def of(cls, one: SeededAnswer, other: SeededAnswer) -> "AnswerComparison":
        pairs = list(zip(one.tokens, other.tokens, strict=True))
        num_common = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        logprobs = zip(one.logprobs[:num_common], other.logprobs[:num_common], strict=True)
        return cls(num_common == len(pairs), num_common, max((abs(a - b) for a, b in logprobs), default=0.0))


def report(name: str, comparisons: list[AnswerComparison]) -> None:
    num_same = sum(each.is_same for each in comparisons)
    num_exact = sum(each.is_same and each.difference == 0 for each in comparisons)
    others = [each.num_common for each in comparisons if not each.is_same]
    common = f"{sum(others) / len(others):.0f} tokens" if others else "-"
    print(
        f"{name:28}{num_same:6}/{len(comparisons)}{num_exact:10}/{len(comparisons)}{largest_difference(comparisons):22.2g}{common:>24}",
        flush=True,
    )


def largest_difference(comparisons: list[AnswerComparison]) -> float:
    return max(each.difference for each in comparisons)


def compare(model: ModelUnderTest, requests: list[AnswerRequest], rounding: float | None) -> list[str]:
    """Print a table and return what does not hold. `rounding`: most that conditions may change; None: not known."""
    print(f"{'':28}{'same':>10}{'bit for bit':>14}{'largest difference':>22}{'common of the others':>24}")
    first = [alone(model, request) for request in requests]

    def compare_all(answer: Callable[[ModelUnderTest, AnswerRequest], SeededAnswer]) -> list[AnswerComparison]:
        return [AnswerComparison.of(one, answer(model, request)) for one, request in zip(first, requests, strict=True)]

    problems = []
    for name, answer in CONDITIONS.items():
        report(name, comparisons := compare_all(answer))
        if answer is alone and not all(each.is_same and each.difference == 0 for each in comparisons):
            problems.append(f"the same condition gave another answer: {name}")
        if rounding is not None and largest_difference(comparisons) > rounding:
            problems.append(
                f"{name}, a log-probability differs by {largest_difference(comparisons):.2g}: more than rounding"
            )
    if rounding is not None:
        report("another token in the prompt", comparisons := compare_all(changed_prompt))
        if largest_difference(comparisons) <= rounding:
            problems.append(
                "another token in the prompt changes as little as rounding: the check could not detect a mistake"
            )
    return problems


def to_f32(model: Path, copy: Path) -> None:
    """Write the model with all its weights in F32."""
    reader: Any = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(copy, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            writer.add_key_value(name, field.contents(), field.types[0], [*field.types, None][1])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=resolve_chat("reader-v1").path)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.model.name}")
    random, started = Random(1), time.perf_counter()
    prompts = questions(options.model, random, options.prompts)
    model = ModelUnderTest(
        options.model, options.threads, options.tokens, questions(options.model, random, _NUM_OTHERS)
    )
    sampled = [AnswerRequest(prompt, seed, 1.0) for prompt in prompts for seed in range(options.seeds)]
    greedy = [AnswerRequest(prompt, 0, 0.0) for prompt in prompts]
    problems = []
    for title, requests in (("temperature 1", sampled), ("greedy", greedy)):
        print(f"\n{title}")
        problems += compare(model, requests, None)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "f32.gguf"
        to_f32(options.model, copy)
        print("\ngreedy, weights in F32")
        problems += compare(model._replace(path=copy), greedy, _ROUNDING)
    print(f"\n{time.perf_counter() - started:.0f} s")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
