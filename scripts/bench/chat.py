"""Compare a grounded conversation of ten turns with one at llama-server: the same GGUF, the same passages.

    .venv/bin/python scripts/bench/chat.py --model FILE.gguf --vs PATH_TO_LLAMA_SERVER [--rounds 3] [--max-tokens 150]
                                [--out results.json]

Cloister: a real `cloister serve` over a copy of this project's manual, over HTTP, streamed. The other contender is the
usual design: in every turn, the passages that Cloister's /v1/search returns for the question go into the system
message, for llama-server's /v1/chat/completions. Both keep their own answers in the conversation, greedy and of at most
`--max-tokens`; weights may be random, as only the seconds to the first token and the number of computed prompt tokens
are measured. Longer answers make longer conversations, which the usual design computes again. Both servers run at the
same time and take turns.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import measurement
from engine import llama_server
from real_server import serving

from models.threads import num_physical_cores

DOCS = Path(__file__).parents[2] / "docs"
CONVERSATIONS = {
    "one topic": [
        "How does Cloister keep the index equal to the folders?",
        "What happens when a file is deleted?",
        "And when most of a folder goes at once?",
        "How soon is a saved file found?",
        "Does that work on network file systems?",
        "What about symbolic links?",
        "Which files are left out?",
        "How large may a file be?",
        "What happens to a file that cannot be read?",
        "How do I make it look at everything again?",
    ],
    "a new topic each turn": [
        "How does Cloister keep the index equal to the folders?",
        "How do I choose another chat model?",
        "Which sampling parameters are accepted?",
        "What is written to disk about conversations?",
        "How are tables in spreadsheets cut?",
        "What does the status of the index tell?",
        "Which port does the server listen on?",
        "How is the KV cache shared between requests?",
        "How are citations sent to the client?",
        "What can I do when the start is slow?",
    ],
}
INSTRUCTION = "Answer the question using only these passages. Cite them as [n].\n\n"


class Turn(NamedTuple):
    first_s: float  # to the first content
    num_computed: int  # tokens of the prompt that were not cached
    num_prompt: int  # tokens


async def stream_turn(http: httpx.AsyncClient, body: dict[str, Any]) -> tuple[Turn, str]:
    """Send a streamed request; return its measurements and the answer."""
    started, first_s, text, last = time.perf_counter(), 0.0, "", dict[str, Any]()
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            frame = json.loads(line[6:])
            assert "error" not in frame, frame
            for choice in frame["choices"]:
                if content := choice["delta"].get("content"):
                    first_s = first_s or time.perf_counter() - started
                    text += content
            last = {**last, **{name: frame[name] for name in ("usage", "timings") if frame.get(name)}}
    usage = last["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return Turn(first_s, usage["prompt_tokens"] - cached, usage["prompt_tokens"]), text


def request(messages: Sequence[dict[str, str]], max_tokens: int, **fields: Any) -> dict[str, Any]:
    return {
        "messages": list(messages),
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }


class CloisterConversation:
    name = "cloister"

    def __init__(self, http: httpx.AsyncClient, max_tokens: int) -> None:
        self._http = http
        self._max_tokens = max_tokens
        self._messages: list[dict[str, str]] = []

    async def ask(self, question: str) -> Turn:
        self._messages.append({"role": "user", "content": question})
        turn, text = await stream_turn(self._http, request(self._messages, self._max_tokens, model="cloister"))
        self._messages.append({"role": "assistant", "content": text})
        return turn


class UsualConversation:
    name = "llama-server"

    def __init__(self, http: httpx.AsyncClient, search: httpx.AsyncClient, max_tokens: int) -> None:
        self._http = http
        self._max_tokens = max_tokens
        self._search = search
        self._messages: list[dict[str, str]] = []

    async def ask(self, question: str) -> Turn:
        hits = (await self._search.post("/v1/search", json={"query": question})).json()["data"]
        passages = "\n\n".join(f"[{i}] {hit['path']}\n{hit['text']}" for i, hit in enumerate(hits, 1))
        self._messages.append({"role": "user", "content": question})
        system = {"role": "system", "content": INSTRUCTION + passages}
        turn, text = await stream_turn(
            self._http, request([system, *self._messages], self._max_tokens, cache_prompt=True)
        )
        self._messages.append({"role": "assistant", "content": text})
        return turn


async def compare(cloister_url: str, other_url: str, rounds: int, max_tokens: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    limits = httpx.Limits(max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=cloister_url, timeout=600, trust_env=False) as cloister,
        httpx.AsyncClient(base_url=other_url, timeout=600, trust_env=False, limits=limits) as other,
    ):
        for name, questions in CONVERSATIONS.items():
            turns: dict[str, list[list[Turn]]] = {"cloister": [], "llama-server": []}
            for number in range(rounds):
                first = f"{questions[0]} ({name}, {number})"  # a new prefix in each round, so that nothing is cached
                conversations = (
                    CloisterConversation(cloister, max_tokens),
                    UsualConversation(other, cloister, max_tokens),
                )
                for conversation in conversations[:: 1 if number % 2 else -1]:
                    answers = [await conversation.ask(question) for question in (first, *questions[1:])]
                    turns[conversation.name].append(answers)
            results[name] = turns
            report(name, turns)
    return results


def report(name: str, turns: dict[str, list[list[Turn]]]) -> None:
    print(f"\n{name}\n| turn | cloister, s | llama-server, s | ratio | tokens computed | by llama-server |")
    print(f"|{' --- |' * 6}")
    medians = {each: [_median([run[at] for run in runs]) for at in range(10)] for each, runs in turns.items()}
    pairs = list(zip(medians["cloister"], medians["llama-server"], strict=True))
    for at, (ours, other) in enumerate(pairs, 1):
        seconds = f"{ours.first_s:.2f} | {other.first_s:.2f} | {other.first_s / ours.first_s:.1f}"
        print(f"| {at} | {seconds} | {ours.num_computed} | {other.num_computed} |")
    ratios = [other.first_s / ours.first_s for ours, other in pairs[1:]]
    totals = " | ".join(str(sum(turn.num_computed for turn in each)) for each in medians.values())
    print(f"| 2 to 10, median | | | {statistics.median(ratios):.1f} | {totals} |", flush=True)


def _median(turns: Sequence[Turn]) -> Turn:
    return Turn(
        first_s=statistics.median(turn.first_s for turn in turns),
        num_computed=statistics.median_low(turn.num_computed for turn in turns),
        num_prompt=statistics.median_low(turn.num_prompt for turn in turns),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--vs", type=Path, required=True, help="path of a llama-server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=150, help="of each answer")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    measurement.print_machine()

    async def run(cloister_url: str) -> dict[str, Any]:
        async with llama_server(options.vs, options.model, num_physical_cores(), 8192, 1) as url:
            return await compare(cloister_url, url, options.rounds, options.max_tokens)

    with tempfile.TemporaryDirectory() as folder:
        docs = Path(shutil.copytree(DOCS, Path(folder) / "docs"))
        with serving(Path(folder), docs, f"--model={options.model}") as server:
            results = asyncio.run(run(server.url))
    measurement.write_results(options.out, results)


if __name__ == "__main__":
    main()
