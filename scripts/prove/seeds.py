"""How far the same seed gives the same answer: alone, among others, over a warm cache.

    .venv/bin/python scripts/prove/seeds.py [--model FILE.gguf] [--prompts 8] [--seeds 4] [--tokens 40] [--threads 1]

A draw depends on the seed and on the model's probabilities, and these on llama.cpp's sums, whose order follows from the
shape of a batch and from where in memory the tokens before it are. So each request is first answered alone by an engine
that has just started, and then again in other circumstances. Told of each: how many answers are the same to the last
token, how many with the same log probabilities to the last bit, by how much one of these differs at most as far as the
tokens are the same, and how long that is where they are not. Greedy answers are compared too.

A quantized model rounds what it has computed to 8 bits before every product, so that the last digit of a sum becomes
tenths of a log probability: as much as another word in the prompt. That nothing but rounding is at work is therefore
shown with the same weights in F32, where circumstances must change far less than one changed token of the prompt does.
Ends with status 1 when they do not, or when the same circumstances do not give the same answer to the last bit.
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

sys.path.insert(0, str(Path(__file__).parents[2]))
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

_COMPANY = 7
_ROUNDING = 0.2  # of a log probability, weights in F32: four times what was seen, an eighth of what another token does


class Answer(NamedTuple):
    tokens: list[int]
    logprobs: list[float]


class Model(NamedTuple):
    path: Path
    threads: int
    num_tokens: int  # of an answer
    company: list[list[int]]  # what others ask

    @contextmanager
    def engine(self, *, threads: int = 0, guesses: bool = True) -> Iterator["Told"]:
        params = EngineParams(n_ctx=2048, num_threads=threads or self.threads)
        with LlamaRunner(self.path, params) as runner:
            scheduler = Scheduler(runner.limits, runner.end_tokens)
            guesses = guesses and runner.limits.supports_partial_removal
            prefill_budget = PrefillBudget(runner.limits.n_batch)
            engine = Engine(
                scheduler, runner, min(runner.end_tokens), prefill_budget=prefill_budget, prompt_lookup=guesses
            )
            yield Told(engine, dict.fromkeys(runner.end_tokens, -1000.0), self.num_tokens)


class Told:
    """An engine, and what it has said."""

    def __init__(self, engine: Engine, banned: dict[int, float], num_tokens: int) -> None:
        self._engine = engine
        self._banned = banned
        self._num_tokens = num_tokens
        self._answers: dict[int, Answer] = {}

    def ask(self, prompt: list[int], seed: int, temperature: float) -> int:
        id = len(self._answers)
        self._answers[id] = Answer([], [])
        sampling = SamplingParams(temperature=temperature, seed=seed, logit_bias=self._banned, num_logprobs=0)
        assert not self._engine.add(Generate(id, prompt, self._num_tokens, sampling))
        return id

    def step(self) -> None:
        for delta in self._engine.step():
            assert delta.error is None, delta.error
            self._answers[delta.id].tokens.extend(delta.tokens)
            self._answers[delta.id].logprobs.extend(told.logprob for told in delta.logprobs)

    def answer(self, id: int) -> Answer:
        while not self._engine.is_idle:
            self.step()
        return self._answers[id]


class Asked(NamedTuple):
    prompt: list[int]
    seed: int
    temperature: float


def questions(model: Path, random: Random, count: int) -> list[list[int]]:
    """Prompts of 50 to some 900 tokens: parts of this project's documentation, and a question."""
    texts = [path.read_text() for path in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))]

    def unknown() -> EngineClient:
        raise AssertionError("only its vocabulary is used")

    with LocalChatModel("", model, unknown) as chat_model:
        found = []
        for _ in range(count):
            text, size = random.choice(texts), random.choice([150, 600, 2400])
            start = random.randrange(max(len(text) - size, 1))
            content = f"[1] manual.md\n{text[start : start + size]}\n\nQuestion: what does the manual say here?"
            found.append(chat_model.prompt([ChatMessage.of_text("user", content)]).tokens)
        return found


def alone(model: Model, asked: Asked) -> Answer:
    with model.engine() as told:
        return told.answer(told.ask(*asked))


def another_thread(model: Model, asked: Asked) -> Answer:
    with model.engine(threads=model.threads + 1) as told:
        return told.answer(told.ask(*asked))


def no_guesses(model: Model, asked: Asked) -> Answer:
    with model.engine(guesses=False) as told:
        return told.answer(told.ask(*asked))


def warm(model: Model, asked: Asked) -> Answer:
    """All of the prompt but its last token is in memory."""
    with model.engine() as told:
        told.answer(told.ask(*asked))
        return told.answer(told.ask(*asked))


def half_warm(model: Model, asked: Asked) -> Answer:
    with model.engine() as told:
        told.answer(told.ask(asked.prompt[: len(asked.prompt) // 2], asked.seed, asked.temperature))
        return told.answer(told.ask(*asked))


def among_others(model: Model, asked: Asked) -> Answer:
    """Others are being answered already, and others come later."""
    others = [Asked(prompt, number, 1.0) for number, prompt in enumerate(model.company)]
    with model.engine() as told:
        for other in others[:4]:
            told.ask(*other)
        for _ in range(6):
            told.step()
        id = told.ask(*asked)
        told.step()
        for other in others[4:]:
            told.ask(*other)
        return told.answer(id)


def mistaken(model: Model, asked: Asked) -> Answer:
    """To a prompt with another token in its middle: what a mix-up would look like at least."""
    at = len(asked.prompt) // 2
    return alone(model, asked._replace(prompt=[*asked.prompt[:at], asked.prompt[at] ^ 1, *asked.prompt[at + 1 :]]))


CIRCUMSTANCES: dict[str, Callable[[Model, Asked], Answer]] = {
    "alone, once more": alone,
    "with a thread more": another_thread,
    "without guesses": no_guesses,
    "prompt in memory": warm,
    "half the prompt in memory": half_warm,
    f"among {_COMPANY} others": among_others,
}


class Comparison(NamedTuple):
    """Of one answer with the same one alone."""

    is_same: bool
    num_common: int  # tokens
    difference: float  # largest, of a log probability, over the common tokens and the one after them

    @classmethod
    def of(cls, one: Answer, other: Answer) -> "Comparison":
        pairs = list(zip(one.tokens, other.tokens, strict=True))
        num_common = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        logprobs = zip(one.logprobs[:num_common], other.logprobs[:num_common], strict=True)
        return cls(num_common == len(pairs), num_common, max((abs(a - b) for a, b in logprobs), default=0.0))


def report(name: str, found: list[Comparison]) -> None:
    num_same = sum(each.is_same for each in found)
    num_exact = sum(each.is_same and each.difference == 0 for each in found)
    others = [each.num_common for each in found if not each.is_same]
    common = f"{sum(others) / len(others):.0f} tokens" if others else "-"
    print(
        f"{name:28}{num_same:6}/{len(found)}{num_exact:10}/{len(found)}{largest(found):22.2g}{common:>24}", flush=True
    )


def largest(found: list[Comparison]) -> float:
    return max(each.difference for each in found)


def compare(model: Model, requests: list[Asked], rounding: float | None) -> list[str]:
    """Prints a table; what does not hold. `rounding`: most that circumstances may change; None: this is not known."""
    print(f"{'':28}{'same':>10}{'bit for bit':>14}{'largest difference':>22}{'common of the others':>24}")
    first = [alone(model, asked) for asked in requests]

    def compared(answer: Callable[[Model, Asked], Answer]) -> list[Comparison]:
        return [Comparison.of(one, answer(model, asked)) for one, asked in zip(first, requests, strict=True)]

    problems = []
    for name, answer in CIRCUMSTANCES.items():
        report(name, found := compared(answer))
        if answer is alone and not all(each.is_same and each.difference == 0 for each in found):
            problems.append(f"the same circumstances gave another answer: {name}")
        if rounding is not None and largest(found) > rounding:
            problems.append(f"{name}, a log probability differs by {largest(found):.2g}: that is no rounding")
    if rounding is not None:
        report("another token in the prompt", found := compared(mistaken))
        if largest(found) <= rounding:
            problems.append("another token in the prompt goes unnoticed: this would see no mistake")
    return problems


def to_f32(model: Path, copy: Path) -> None:
    """Writes the model with all its weights in F32."""
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
    model = Model(options.model, options.threads, options.tokens, questions(options.model, random, _COMPANY))
    drawn = [Asked(prompt, seed, 1.0) for prompt in prompts for seed in range(options.seeds)]
    greedy = [Asked(prompt, 0, 0.0) for prompt in prompts]
    problems = []
    for title, requests in (("temperature 1", drawn), ("greedy", greedy)):
        print(f"\n{title}")
        problems += compare(model, requests, None)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "f32.gguf"
        to_f32(options.model, copy)
        print("\ngreedy, weights in F32")
        problems += compare(model._replace(path=copy), greedy, _ROUNDING)
    print("\n" + ("\n".join(problems) or "all of it holds") + f"; {time.perf_counter() - started:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
