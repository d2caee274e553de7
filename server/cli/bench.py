"""`cloister bench`: measure the speed of the running server's answers, for several numbers of parallel requests."""

import argparse
import contextlib
import math
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
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
_MAX_STREAMS = 256
_HEADER = f"{'streams':>8}{'first token':>13}{'p95':>9}{'tokens/s':>10}{'each':>9}"


class AnswerTiming(NamedTuple):
    """Seconds to the first token of an answer, seconds in all, and how many tokens it has."""

    first_s: float
    total_s: float
    num_tokens: int


class BenchResult(msgspec.Struct, frozen=True):
    """The result for one number of parallel streams. `tokens_per_s` is of all together, the rest of single answers."""

    streams: int
    answers: int
    first_token_s: float
    first_token_p95_s: float
    tokens_per_s: float
    answer_tokens_per_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="ID", default="cloister", help="model that answers (default: cloister)")
    parser.add_argument(
        "--streams", metavar="N,N…", type=_counts, default=(1, 4), help="numbers of parallel requests (default: 1,4)"
    )
    parser.add_argument("--answers", metavar="N", type=int, default=8, help="answers per number (default: 8)")
    parser.add_argument("--max-tokens", metavar="N", type=int, default=128, help="tokens per answer (default: 128)")
    parser.add_argument("--question", metavar="TEXT", action="append", help="question to ask (repeatable)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_connection(parser)
    parser.set_defaults(run=run)


def _counts(text: str) -> tuple[int, ...]:
    counts = text.split(",")
    if not all(each.isascii() and each.isdigit() and 1 <= int(each) <= _MAX_STREAMS for each in counts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 to {_MAX_STREAMS}, such as 1,4")
    return tuple(map(int, counts))


def run(options: argparse.Namespace) -> int:
    questions = options.question or _QUESTIONS
    results = []
    with open_client(options) as client:
        _answer(client, questions[0], options)  # warms up: loads the model if it must
        if not options.json:
            print(_HEADER)
        for streams in options.streams:
            results.append(_measure(client, streams, questions, options))
            if not options.json:
                print(_format_result(results[-1]), flush=True)
    if options.json:
        print(msgspec.json.encode(results).decode())
    return 0


def _format_result(result: BenchResult) -> str:
    return (
        f"{result.streams:8}{result.first_token_s:11.3f} s{result.first_token_p95_s:7.3f} s"
        f"{result.tokens_per_s:10.1f}{result.answer_tokens_per_s:9.1f}"
    )


def _measure(client: httpx2.Client, streams: int, questions: Sequence[str], options: argparse.Namespace) -> BenchResult:
    count = max(options.answers, streams)
    # A number in each question keeps its prompt out of the server's prefix cache.
    numbered = [f"{questions[i % len(questions)]} ({streams}.{i})" for i in range(count)]
    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool, _stop_event() as stop:
        timings = list(pool.map(lambda question: _answer(client, question, options, stop), numbered))
    elapsed = time.perf_counter() - started
    first_s = sorted(timing.first_s for timing in timings)
    rates = [(each.num_tokens - 1) / (each.total_s - each.first_s) for each in timings if each.num_tokens > 1]
    return BenchResult(
        streams=streams,
        answers=count,
        first_token_s=statistics.median(first_s),
        first_token_p95_s=first_s[math.ceil(0.95 * len(first_s)) - 1],
        tokens_per_s=sum(timing.num_tokens for timing in timings) / elapsed,
        answer_tokens_per_s=statistics.median(rates) if rates else 0.0,
    )


@contextlib.contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """Yield an event that is set when the block ends, also by an error, so that other threads stop."""
    stop = threading.Event()
    try:
        yield stop
    finally:
        stop.set()


def _answer(
    client: httpx2.Client, question: str, options: argparse.Namespace, stop: threading.Event | None = None
) -> AnswerTiming:
    """Read a streamed answer until its end or until `stop` is set. Raises `StartError`."""
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
            if stop and stop.is_set():
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
