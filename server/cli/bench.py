"""`cloister bench`: how fast the running server answers, by how many ask at once."""

import argparse
import contextlib
import math
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx2
import msgspec

from server.cli.connection import add_connection, check_reply, open_client
from server.cli.errors import StartError

_QUESTIONS = (
    "What is this about?", "How do I begin?", "What happens when something fails?", "Who may do what?",
    "Where are the files kept?", "What does it need?", "How is it changed?", "What is the limit?",
)  # fmt: skip
_MOST_STREAMS = 256


class AnswerTiming(NamedTuple):
    """The timing of an answer: seconds to its first token, seconds in all, and its tokens."""

    first_s: float
    total_s: float
    num_tokens: int


class BenchResult(msgspec.Struct, frozen=True):
    """The result for one number of streams. `tokens_per_s` is of all together; the rest are of single answers."""

    streams: int
    answers: int
    first_token_s: float
    first_token_p95_s: float
    tokens_per_s: float
    answer_tokens_per_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="ID", default="cloister", help="who is asked (default: cloister)")
    parser.add_argument(
        "--streams", metavar="N,N…", type=_counts, default=(1, 4), help="how many ask at once (default: 1,4)"
    )
    parser.add_argument("--answers", metavar="N", type=int, default=8, help="answers each time (default: 8)")
    parser.add_argument("--max-tokens", metavar="N", type=int, default=128, help="of an answer (default: 128)")
    parser.add_argument("--question", metavar="TEXT", action="append", help="ask this (again for more)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_connection(parser)
    parser.set_defaults(run=run)


def _counts(text: str) -> tuple[int, ...]:
    counts = text.split(",")
    if not all(each.isascii() and each.isdigit() and 1 <= int(each) <= _MOST_STREAMS for each in counts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 to {_MOST_STREAMS}, such as 1,4")
    return tuple(map(int, counts))


def run(options: argparse.Namespace) -> int:
    questions = options.question or _QUESTIONS
    rows = []
    with open_client(options) as client:
        _answer(client, questions[0], options)  # the first one pays for what is loaded when it is needed
        if not options.json:
            print(f"{'at once':>8}{'first token':>13}{'p95':>9}{'tokens/s':>10}{'of each':>9}")
        for streams in options.streams:
            rows.append(_row(client, streams, questions, options))
            if not options.json:
                row = rows[-1]
                print(
                    f"{row.streams:8}{row.first_token_s:11.3f} s{row.first_token_p95_s:7.3f} s"
                    f"{row.tokens_per_s:10.1f}{row.answer_tokens_per_s:9.1f}",
                    flush=True,
                )
    if options.json:
        print(msgspec.json.encode(rows).decode())
    return 0


def _row(client: httpx2.Client, streams: int, questions: tuple[str, ...], options: argparse.Namespace) -> BenchResult:
    count = max(options.answers, streams)
    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool, _leaving() as left:
        asked = [f"{questions[i % len(questions)]} ({streams}.{i})" for i in range(count)]  # none is in memory
        timed = list(pool.map(lambda question: _answer(client, question, options, left), asked))
    elapsed = time.perf_counter() - started
    firsts = sorted(each.first_s for each in timed)
    rates = [(each.num_tokens - 1) / (each.total_s - each.first_s) for each in timed if each.num_tokens > 1]
    return BenchResult(
        streams,
        count,
        statistics.median(firsts),
        firsts[math.ceil(0.95 * len(firsts)) - 1],
        sum(each.num_tokens for each in timed) / elapsed,
        statistics.median(rates) if rates else 0.0,
    )


@contextlib.contextmanager
def _leaving() -> Iterator[threading.Event]:
    """Set when this is left: answers that are still being made are then of no use."""
    left = threading.Event()
    try:
        yield left
    finally:
        left.set()


def _answer(
    client: httpx2.Client, question: str, options: argparse.Namespace, left: threading.Event | None = None
) -> AnswerTiming:
    """Until `left`, if that is sooner. Raises `StartError`."""
    body = {
        "model": options.model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": options.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started = time.perf_counter()
    first_s, num_tokens = 0.0, 0
    with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        for line in check_reply(reply).iter_lines():
            if left and left.is_set():
                break
            if not line.startswith("data: {"):
                continue
            chunk = msgspec.json.decode(line.removeprefix("data: "))
            if "error" in chunk:
                raise StartError(str(chunk["error"]["message"]))
            if not first_s and any(choice["delta"].get("content") for choice in chunk["choices"]):
                first_s = time.perf_counter() - started
            if usage := chunk.get("usage"):
                num_tokens = usage["completion_tokens"]
    total_s = time.perf_counter() - started
    return AnswerTiming(first_s or total_s, total_s, num_tokens)
