"""Measure what the server adds to the engine's work, and the rate of requests that need no model.

    .venv/bin/python scripts/bench/http_overhead.py [--requests 300]

A real `cloister serve` with the built-in model. The chat request is for one token and its prompt is cached, so the
engine has little to do; its time is subtracted: the same prompt and sampling at the client of a second engine in this
process, in turn with the server. GET /v1/models is requested by another process over eight persistent connections.
Medians; targets in parentheses.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import measurement
from real_server import serving, write_handbook

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
    """A persistent HTTP connection with a minimal client, so that the server is what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def open(cls, url: str) -> Self:
        address = urlsplit(url)
        return cls(*await asyncio.open_connection(address.hostname, address.port), address.netloc)

    async def request(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        reply = await self._reader.readuntil(b"\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 200"), reply
        length = next(line for line in reply.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await self._reader.readexactly(int(length.split(b":")[1]))

    def close(self) -> None:
        self._writer.close()


async def chat_ms(connection: Connection) -> float:
    started = time.perf_counter()
    await connection.request("POST", "/v1/chat/completions", BODY)
    return 1000 * (time.perf_counter() - started)


async def engine_ms(model: LocalChatModel, prompt: list[int]) -> float:
    started = time.perf_counter()
    async for _ in model.stream_text(prompt, SamplingParams(temperature=0), max_tokens=1):
        pass
    return 1000 * (time.perf_counter() - started)


async def rate(url: str, path: str, seconds: float) -> float:
    """Return requests a second over persistent connections, each with one request at a time."""
    deadline, count = time.perf_counter() + seconds, 0

    async def send_requests() -> None:
        nonlocal count
        with contextlib.closing(await Connection.open(url)) as connection:
            while time.perf_counter() < deadline:
                await connection.request("GET", path)
                count += 1

    await asyncio.gather(*(send_requests() for _ in range(NUM_CONNECTIONS)))
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
                times = await chat_ms(connection), await engine_ms(model, prompt)
                if number >= 10:  # the first ones warm up the caches
                    served.append(times[0])
                    alone.append(times[1])
    print(f"chat request of one token: {statistics.median(served):.2f} ms, engine {statistics.median(alone):.2f} ms")
    beyond = [over - engine for over, engine in zip(served, alone, strict=True)]
    p50, p95 = measurement.percentiles(beyond)
    print(f"beyond the engine: p50 {p50:.2f} ms (5), p95 {p95:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rate-of", metavar="URL", help=argparse.SUPPRESS)  # for the second process
    options = parser.parse_args()
    if options.rate_of:
        print(f"{asyncio.run(rate(options.rate_of, '/v1/models', 5.0)):.0f}")
        return
    measurement.print_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, write_handbook(folder / "handbook")) as server:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(server.process.pid, {0})
            command = [sys.executable, __file__, "--rate-of", server.url]
            requests_per_s = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"GET /v1/models: {requests_per_s.strip()} requests/s from one core (300)")
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(server.process.pid, os.sched_getaffinity(0))
            asyncio.run(measure(server.url, options.requests))


if __name__ == "__main__":
    main()
