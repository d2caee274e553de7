"""A grounded conversation of ten turns, beside llama-server fed the usual way. Same GGUF, same passages.

    .venv/bin/python scripts/bench/chat.py --model FILE.gguf --vs PATH_TO_LLAMA_SERVER [--rounds 3] [--answer 150]
                                [--out results.json]

Ours: a real `cloister serve` over a copy of this project's manual, asked over HTTP, streamed. The usual way: the
passages that our /v1/search finds for the question, as many, fresh in the system message of every turn, at
llama-server's /v1/chat/completions. Both keep their own answers in the conversation, greedy and of at most `--answer`
tokens; weights may be random, for what is measured is the seconds to the first token, and the tokens that had to be
read. The longer the answers, the longer the conversation that the usual way reads again. Both servers run at the same
time and take turns.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "e2e"))

from engine import llama_server
from running import serving

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
    first_s: float
    num_read: int  # tokens of the prompt that had to be computed
    num_prompt: int


async def streamed(http: httpx.AsyncClient, body: dict[str, Any]) -> tuple[Turn, str]:
    """Seconds to the first content; the answer."""
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


class Ours:
    name = "cloister"

    def __init__(self, http: httpx.AsyncClient, max_tokens: int) -> None:
        self._http = http
        self._max_tokens = max_tokens
        self._messages: list[dict[str, str]] = []

    async def ask(self, question: str) -> Turn:
        self._messages.append({"role": "user", "content": question})
        turn, text = await streamed(self._http, request(self._messages, self._max_tokens, model="cloister"))
        self._messages.append({"role": "assistant", "content": text})
        return turn


class UsualWay:
    name = "llama-server"

    def __init__(self, http: httpx.AsyncClient, search: httpx.AsyncClient, max_tokens: int) -> None:
        self._http = http
        self._max_tokens = max_tokens
        self._search = search
        self._messages: list[dict[str, str]] = []

    async def ask(self, question: str) -> Turn:
        found = (await self._search.post("/v1/search", json={"query": question})).json()["data"]
        passages = "\n\n".join(f"[{i}] {hit['path']}\n{hit['text']}" for i, hit in enumerate(found, 1))
        self._messages.append({"role": "user", "content": question})
        system = {"role": "system", "content": INSTRUCTION + passages}
        turn, text = await streamed(self._http, request([system, *self._messages], self._max_tokens, cache_prompt=True))
        self._messages.append({"role": "assistant", "content": text})
        return turn


async def compare(ours_url: str, other_url: str, rounds: int, max_tokens: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    limits = httpx.Limits(max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=ours_url, timeout=600, trust_env=False) as ours,
        httpx.AsyncClient(base_url=other_url, timeout=600, trust_env=False, limits=limits) as other,
    ):
        for name, questions in CONVERSATIONS.items():
            turns: dict[str, list[list[Turn]]] = {"cloister": [], "llama-server": []}
            for number in range(rounds):
                for contender in (Ours(ours, max_tokens), UsualWay(other, ours, max_tokens))[
                    :: 1 if number % 2 else -1
                ]:
                    begun = [f"{questions[0]} ({name}, {number})", *questions[1:]]  # nothing is known of it yet
                    turns[contender.name].append([await contender.ask(question) for question in begun])
            results[name] = turns
            report(name, turns)
    return results


def report(name: str, turns: dict[str, list[list[Turn]]]) -> None:
    print(
        f"\n{name}\n| turn | cloister, s | llama-server, s | ratio | tokens read | by llama-server |\n|{' --- |' * 6}"
    )
    medians = {who: [_median(run[at] for run in runs) for at in range(10)] for who, runs in turns.items()}
    pairs = list(zip(medians["cloister"], medians["llama-server"], strict=True))
    for at, (ours, other) in enumerate(pairs, 1):
        ratio = other.first_s / ours.first_s
        print(f"| {at} | {ours.first_s:.2f} | {other.first_s:.2f} | {ratio:.1f} | {ours.num_read} | {other.num_read} |")
    ratios = [other.first_s / ours.first_s for ours, other in pairs[1:]]
    read = [sum(turn.num_read for turn in medians[who]) for who in medians]
    print(f"| 2 to 10, median | | | {statistics.median(ratios):.1f} | {read[0]} | {read[1]} |", flush=True)


def _median(turns: Any) -> Turn:
    return Turn(*(statistics.median(values) for values in zip(*turns, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--vs", type=Path, required=True, help="path of a llama-server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answer", type=int, default=150, help="tokens of each answer, at most")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")

    async def run(ours_url: str) -> dict[str, Any]:
        async with llama_server(options.vs, options.model, num_physical_cores(), 8192, 1) as url:
            return await compare(ours_url, url, options.rounds, options.answer)

    with tempfile.TemporaryDirectory() as folder:
        docs = Path(shutil.copytree(DOCS, Path(folder) / "docs"))
        with serving(Path(folder), docs, f"--model={options.model}") as server:
            results = asyncio.run(run(server.url))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
