"""Compare the engine with llama-server: same file, same threads, runs interleaved, medians.

    .venv/bin/python scripts/bench/engine.py --model FILE.gguf --vs PATH_TO_LLAMA_SERVER [--out results.json]

llama-server is built from the source distribution of the pinned llama-cpp-python (vendor/llama.cpp):
    cmake -B build -DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF -DGGML_NATIVE=ON
    cmake --build build --target llama-server
Both processes run at the same time and take turns, so that other work on a shared machine disturbs both alike. The
engine is measured at its client (no HTTP), llama-server at its native /completion with token ids, greedy, streamed.
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import httpx
import measurement

from models.llm.engine.client import EngineClient, open_engine
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams, SamplingParams
from models.threads import num_physical_cores


class TimedRun(NamedTuple):
    """Arrival times of tokens, seconds since the request."""

    times: list[float]

    @property
    def first_s(self) -> float:
        return self.times[0]

    @property
    def gaps_s(self) -> list[float]:
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]


class Gaps(NamedTuple):
    """Seconds between tokens of running answers, and until a prompt that came meanwhile had its first token."""

    p95_s: float
    longest_s: float
    first_s: float


class Contender(Protocol):
    """One of the servers compared."""

    name: str

    async def generate(self, prompt: list[int], num_tokens: int) -> TimedRun: ...


class CloisterEngine:
    name = "cloister"

    def __init__(self, engine: EngineClient, banned: Sequence[int]) -> None:
        self._engine = engine
        self._sampling = SamplingParams(temperature=0, logit_bias=dict.fromkeys(banned, -1e9))

    async def generate(self, prompt: list[int], num_tokens: int) -> TimedRun:
        started, times = time.perf_counter(), []
        deltas = self._engine.generate(prompt, num_tokens, self._sampling)
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                times += [time.perf_counter() - started] * len(delta.tokens)
        return TimedRun(times)


class LlamaServer:
    name = "llama-server"

    def __init__(self, url: str, banned: Sequence[int]) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)  # the server closes idle connections between turns
        self._http = httpx.AsyncClient(base_url=url, timeout=600, trust_env=False, limits=limits)
        self._bias = [[token, False] for token in banned]

    async def generate(self, prompt: list[int], num_tokens: int) -> TimedRun:
        body = {
            "prompt": prompt,
            "n_predict": num_tokens,
            "temperature": 0,
            "samplers": ["temperature"],
            "logit_bias": self._bias,
            "cache_prompt": True,
            "stream": True,
            "return_tokens": True,
        }
        started, times = time.perf_counter(), []
        async with self._http.stream("POST", "/completion", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: ") and (tokens := json.loads(line[6:]).get("tokens")):
                    times += [time.perf_counter() - started] * len(tokens)
        return TimedRun(times)


def _start(command: list[object]) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(list(map(str, command)), stdout=quiet, stderr=quiet, start_new_session=True)


@contextlib.asynccontextmanager
async def llama_server(binary: Path, model: Path, threads: int, n_ctx: int, slots: int) -> AsyncIterator[str]:
    """Run llama-server on a free loopback port, with its defaults for all other settings."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = ["-m", model, "-t", threads, "-tb", threads, "-c", n_ctx, "-np", slots, "--port", port, "--kv-unified"]
    process = _start([binary, *arguments])
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(120):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"{url}/health")).status_code == 200:
                        break
                await asyncio.sleep(0.2)
        yield url
    finally:
        process.kill()  # SIGTERM would wait for open connections
        process.wait()


T = TypeVar("T")
Measure = Callable[[Contender], Awaitable[float]]


class Benchmark:
    """The measurements. Each gives one number per run; larger is better for rates, smaller for seconds."""

    def __init__(self, vocab_size: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._vocab_size = vocab_size

    def prompt(self, size: int) -> list[int]:
        return [self._rng.randrange(256, min(self._vocab_size, 100_000)) for _ in range(size)]

    def measures(self) -> dict[str, Measure]:
        return {
            "prefill 512, tokens/s": self.prefill,
            "decode 1 stream, tokens/s": lambda c: self.decode(c, 1),
            "decode 4 streams, tokens/s": lambda c: self.decode(c, 4),
            "decode 8 streams, tokens/s": lambda c: self.decode(c, 8),
            "decode 16 streams, tokens/s": lambda c: self.decode(c, 16),
            "second question over a shared prefix of 1000, s to first token": self.shared_prefix,
        }

    def mixed_measures(self) -> dict[str, Callable[[Contender], Awaitable[Gaps]]]:
        """Return measurements of answers while prompts come without pauses, and while three come with pauses."""
        return {
            "prompts of 500 without pause": lambda c: self.mixed(c, pause_s=0, num_prompts=3),
            "3 prompts of 500": lambda c: self.mixed(c, pause_s=0.3, num_prompts=3),
        }

    async def prefill(self, contender: Contender) -> float:
        run = await contender.generate(self.prompt(512), 1)
        return 512 / run.first_s

    async def decode(self, contender: Contender, streams: int) -> float:
        """Return tokens per second from the moment all streams have their first token."""
        runs = await asyncio.gather(*(contender.generate(self.prompt(16), 64) for _ in range(streams)))
        begin = max(run.first_s for run in runs)
        tokens = [at for run in runs for at in run.times if at > begin]
        return len(tokens) / (max(tokens) - begin)

    async def shared_prefix(self, contender: Contender) -> float:
        prefix = self.prompt(1000)
        await contender.generate([*prefix, *self.prompt(20)], 8)
        return (await contender.generate([*prefix, *self.prompt(20)], 2)).first_s

    async def mixed(self, contender: Contender, *, pause_s: float, num_prompts: int) -> Gaps:
        """Measure four running answers while prompts of 500 tokens come, one after the other."""
        answering = [asyncio.create_task(contender.generate(self.prompt(16), 96)) for _ in range(4)]
        started, first = time.perf_counter(), []
        for _ in range(num_prompts):
            await asyncio.sleep(pause_s)
            first.append((await contender.generate(self.prompt(500), 1)).first_s)
        elapsed = time.perf_counter() - started
        runs = await asyncio.gather(*answering)
        arrivals = [[at for at in run.times if at <= elapsed] for run in runs]
        gaps = sorted(b - a for times in arrivals for a, b in itertools.pairwise(times))
        return Gaps(gaps[int(len(gaps) * 0.95)], gaps[-1], statistics.median(first))


async def compare(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure everything and return the medians; each row is printed as soon as it is measured."""
    threads = options.threads or num_physical_cores()
    with Vocabulary(options.model) as vocabulary:
        bench, banned = Benchmark(vocabulary.size, seed=1), sorted(vocabulary.end_tokens)
    params = EngineParams(n_ctx=8192, num_slots=16, num_threads=threads, prompt_lookup=False)
    results: dict[str, dict[str, float]] = {}

    def report(name: str, figures: dict[str, float]) -> None:
        results[name] = figures
        ratio = f"{figures['cloister'] / figures['llama-server']:.2f}" if "llama-server" in figures else ""
        print(f"| {name} | {' | '.join(f'{value:.4g}' for value in figures.values())} | {ratio} |", flush=True)

    async with contextlib.AsyncExitStack() as stack:
        contenders: list[Contender] = [
            CloisterEngine(await stack.enter_async_context(open_engine(options.model, params)), banned)
        ]
        if options.vs:
            url = await stack.enter_async_context(llama_server(options.vs, options.model, threads, 16384, 16))
            contenders.append(LlamaServer(url, banned))
        for contender in contenders:
            await contender.generate(bench.prompt(32), 8)
        print(f"| measure | {' | '.join(each.name for each in contenders)} | ratio |\n| --- {'| --- ' * 3}|")
        for name, measure in bench.measures().items():
            if options.only not in name:
                continue
            runs = await interleaved(measure, contenders, options.rounds)
            report(name, {each: statistics.median(values) for each, values in runs.items()})
        for name, measure_gaps in bench.mixed_measures().items():
            if options.only not in name:
                continue
            gaps = await interleaved(measure_gaps, contenders, options.rounds)
            for field, title in enumerate(("p95 between tokens", "longest between tokens", "prompt's first token")):
                report(
                    f"{name}: {title}, s", {n: statistics.median(g[field] for g in each) for n, each in gaps.items()}
                )
        if options.only in (name := "decode 1 stream beside a busy process, tokens/s"):
            with busy_process():
                runs = await interleaved(functools.partial(bench.decode, streams=1), contenders, options.rounds)
            report(name, {each: statistics.median(values) for each, values in runs.items()})
    for name, seconds in (await disk_cache(options.model, params, banned, bench)).items():
        report(name, {"cloister": seconds})
    return results


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    """Run a process that keeps one core busy."""
    process = _start([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def disk_cache(model: Path, params: EngineParams, banned: Sequence[int], bench: "Benchmark") -> dict[str, float]:
    """Return seconds to the first token of the same 1000 tokens: new, in memory, and on disk after a restart."""
    prompt = bench.prompt(1000)
    with tempfile.TemporaryDirectory() as folder:
        async with open_engine(model, params, Path(folder)) as engine:
            await CloisterEngine(engine, banned).generate(bench.prompt(32), 2)
            cold = (await CloisterEngine(engine, banned).generate(prompt, 2)).first_s
            warm = (await CloisterEngine(engine, banned).generate(prompt, 2)).first_s
        async with open_engine(model, params, Path(folder)) as engine:
            await CloisterEngine(engine, banned).generate(bench.prompt(32), 2)
            disk = (await CloisterEngine(engine, banned).generate(prompt, 2)).first_s
    return {
        "prompt of 1000 never seen, s to first token": cold,
        "the same again, in memory": warm,
        "the same after a restart, from disk": disk,
    }


async def interleaved(
    measure: Callable[[Contender], Awaitable[T]], contenders: list[Contender], rounds: int
) -> dict[str, list[T]]:
    """Return the measurements by contender's name; the contenders take turns in going first."""
    values: dict[str, list[T]] = {contender.name: [] for contender in contenders}
    for contender in measurement.take_turns(contenders, rounds):
        values[contender.name].append(await measure(contender))
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--vs", type=Path, help="path of a llama-server")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only measurements with this text in their name")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    measurement.print_machine()
    results = asyncio.run(compare(options))
    measurement.write_results(options.out, results)


if __name__ == "__main__":
    main()
