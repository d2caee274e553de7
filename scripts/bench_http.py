"""What the server adds to the engine's work: milliseconds of a chat request, and requests a second that need no model.

    .venv/bin/python scripts/bench_http.py [--requests 300]

A real `cloister serve` with the built-in model. The chat request is one token long and its prompt is in memory, so the
engine has next to nothing to do; what it does is subtracted: the same prompt and sampling, asked at the engine's own
client in this process, from a second engine of the same file. Both take turns. GET /v1/models is asked over eight kept
connections by another process. Medians; targets in parentheses.
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

from running import serving, write_handbook

from models.catalog import resolve_chat
from models.llm.chat_template import ChatMessage
from models.llm.client import open_engine
from models.llm.language_model import LanguageModel
from models.llm.params import EngineParams, SamplingParams

BODY: dict[str, Any] = {
    "model": "reader-v0",
    "messages": [{"role": "user", "content": "How long is parental leave?"}],
    "max_tokens": 1,
    "temperature": 0,
}
NUM_CONNECTIONS = 8


async def chat_ms(http: httpx.AsyncClient) -> float:
    started = time.perf_counter()
    (await http.post("/v1/chat/completions", json=BODY)).raise_for_status()
    return 1000 * (time.perf_counter() - started)


async def engine_ms(model: LanguageModel, prompt: list[int]) -> float:
    started = time.perf_counter()
    async for _ in model.generate(prompt, SamplingParams(temperature=0), max_tokens=1):
        pass
    return 1000 * (time.perf_counter() - started)


async def rate(url: str, path: str, seconds: float) -> float:
    """Requests a second over kept connections, each with one request at a time."""
    host = httpx.URL(url)
    request = f"GET {path} HTTP/1.1\r\nHost: {host.host}:{host.port}\r\n\r\n".encode()
    deadline, count = time.perf_counter() + seconds, 0

    async def ask() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection(host.host, host.port)
        while time.perf_counter() < deadline:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            count += 1
        writer.close()

    await asyncio.gather(*(ask() for _ in range(NUM_CONNECTIONS)))
    return count / seconds


async def measure(url: str, num_requests: int) -> None:
    path = resolve_chat("reader-v0").path
    params = EngineParams(n_ctx=2048)
    async with open_engine(path, params) as engine, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        with LanguageModel("reader-v0", path, lambda: engine) as model:
            prompt = model.prompt([ChatMessage("user", BODY["messages"][0]["content"])]).tokens
            served, alone = [], []
            for number in range(num_requests + 10):
                pair = await chat_ms(http), await engine_ms(model, prompt)
                if number >= 10:  # warm by then
                    served.append(pair[0])
                    alone.append(pair[1])
    print(
        f"chat request of one token: {statistics.median(served):.2f} ms, engine alone {statistics.median(alone):.2f} ms"
    )
    beyond = [over - engine for over, engine in zip(served, alone, strict=True)]
    print(
        f"beyond the engine: p50 {statistics.median(beyond):.2f} ms (5), p95 {statistics.quantiles(beyond, n=20)[-1]:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rate-of", metavar="URL", help=argparse.SUPPRESS)  # this program's own second process
    options = parser.parse_args()
    if options.rate_of:
        print(f"{asyncio.run(rate(options.rate_of, '/v1/models', 5.0)):.0f}")
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, write_handbook(folder / "handbook")) as server:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(server.process.pid, {0})
            command = [sys.executable, __file__, "--rate-of", server.url]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"GET /v1/models: {told.strip()} requests/s from one core (300)")
            asyncio.run(measure(server.url, options.requests))


if __name__ == "__main__":
    main()
