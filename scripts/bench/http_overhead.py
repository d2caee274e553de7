"""What the server adds to the engine's work: milliseconds of a chat request, and requests a second that need no model.

    .venv/bin/python scripts/bench/http_overhead.py [--requests 300]

A real `cloister serve` with the built-in model. The chat request is one token long and its prompt is in memory, so the
engine has next to nothing to do; what it does is subtracted: the same prompt and sampling, asked at the engine's own
client in this process, from a second engine of the same file. Both take turns. GET /v1/models is asked over eight kept
connections by another process. Medians; targets in parentheses.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "e2e"))

from running import serving, write_handbook

from models.catalog import resolve_chat
from models.llm.chat.messages import ChatMessage
from models.llm.engine.client import open_engine
from models.llm.local import LocalChatModel
from models.llm.params import EngineParams, SamplingParams

QUESTION = "How long is parental leave?"
BODY = json.dumps(
    {
        "model": "reader-v1",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 1,
        "temperature": 0,
    }
).encode()
NUM_CONNECTIONS = 8


class Connection:
    """One that is kept; as little of a client as can be, so that the server is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def open(cls, url: str) -> Self:
        address = urlsplit(url)
        return cls(*await asyncio.open_connection(address.hostname, address.port), address.netloc)

    async def ask(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        told = await self._reader.readuntil(b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 200"), told
        length = next(line for line in told.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await self._reader.readexactly(int(length.split(b":")[1]))

    def close(self) -> None:
        self._writer.close()


async def chat_ms(connection: Connection) -> float:
    started = time.perf_counter()
    await connection.ask("POST", "/v1/chat/completions", BODY)
    return 1000 * (time.perf_counter() - started)


async def engine_ms(model: LocalChatModel, prompt: list[int]) -> float:
    started = time.perf_counter()
    async for _ in model.stream_text(prompt, SamplingParams(temperature=0), max_tokens=1):
        pass
    return 1000 * (time.perf_counter() - started)


async def rate(url: str, path: str, seconds: float) -> float:
    """Requests a second over kept connections, each with one request at a time."""
    deadline, count = time.perf_counter() + seconds, 0

    async def ask() -> None:
        nonlocal count
        with contextlib.closing(await Connection.open(url)) as connection:
            while time.perf_counter() < deadline:
                await connection.ask("GET", path)
                count += 1

    await asyncio.gather(*(ask() for _ in range(NUM_CONNECTIONS)))
    return count / seconds


async def measure(url: str, num_requests: int) -> None:
    path = resolve_chat("reader-v1").path
    async with open_engine(path, EngineParams(n_ctx=2048)) as engine:
        with (
            LocalChatModel("reader-v1", path, lambda: engine) as model,
            contextlib.closing(await Connection.open(url)) as connection,
        ):
            prompt = model.prompt([ChatMessage.of_text("user", QUESTION)]).tokens
            served, alone = [], []
            for number in range(num_requests + 10):
                pair = await chat_ms(connection), await engine_ms(model, prompt)
                if number >= 10:  # warm by then
                    served.append(pair[0])
                    alone.append(pair[1])
    print(f"chat request of one token: {statistics.median(served):.2f} ms, engine {statistics.median(alone):.2f} ms")
    beyond = [over - engine for over, engine in zip(served, alone, strict=True)]
    p50, p95 = statistics.median(beyond), statistics.quantiles(beyond, n=20)[-1]
    print(f"beyond the engine: p50 {p50:.2f} ms (5), p95 {p95:.2f} ms")


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
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(server.process.pid, os.sched_getaffinity(0))
            asyncio.run(measure(server.url, options.requests))


if __name__ == "__main__":
    main()
