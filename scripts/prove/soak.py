"""Prove that a server under mixed load for a long time neither grows nor slows down, and restarts no process.

    .venv/bin/python scripts/prove/soak.py [--minutes 30] [--seed 1]

A real server with the built-in models. Four clients ask grounded questions whole and streamed, continue conversations,
disconnect during an answer, search, embed, upload files, add them to vector stores and delete them, and send invalid
requests; a fifth edits the watched folder. Every few seconds the memory of the processes (RssAnon and VmSwap, so that
swapped memory counts), open files, threads and the databases' write-ahead logs are sampled; the time of each question
is measured. After a warm-up of a third of the time, the slope of the memory may be at most 1 MiB for a thousand
requests; open files and threads may grow by five; the p95 of the questions in the second half may be a tenth slower
than in the quarter before. The exit status is 1 when one of these fails.
"""

import argparse
import contextlib
import random
import re
import statistics
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import proof
from real_server import Server, wait_until

_SAMPLE_INTERVAL_S = 5.0
_MAX_GROWTH_BYTES = 1 << 20  # for a thousand requests
_MAX_WAL_BYTES = 64 << 20
_QUESTIONS = (
    "How long is parental leave?",
    "Who pays for train tickets?",
    "Where are the keys kept?",
    "And on Mondays?",
)
_INVALID_REQUESTS: tuple[tuple[str, object], ...] = (
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}),
    ("/v1/search", {"query": 7}),
    ("/v1/nothing", {}),
)


class Sample(NamedTuple):
    """The resources of all processes at one moment."""

    num_requests: int  # until then
    memory_bytes: int
    num_files: int
    num_threads: int
    wal_bytes: int  # of the largest write-ahead log


class Load:
    """The clients, the replies that they counted, and the seconds that each question took."""

    def __init__(self, server: Server, seed: int) -> None:
        self._server = server
        self._seed = seed
        self.is_over = threading.Event()
        self.statuses = Counter[str]()
        self.times: list[float] = []
        self._lock = threading.Lock()

    @property
    def num_requests(self) -> int:
        return self.statuses.total()

    def client(self, number: int) -> None:
        rng = random.Random(self._seed * 100 + number)
        actions = (
            self._ask, self._ask, self._ask, self._disconnect, self._search, self._embed, self._upload,
            self._send_invalid,
        )  # fmt: skip
        with self._server.client() as http:
            while not self.is_over.is_set():
                action = rng.choice(actions)
                with contextlib.suppress(httpx.TransportError):
                    action(http, rng)

    def edit(self) -> None:
        rng, folder = random.Random(self._seed), self._server.docs
        while not self.is_over.wait(0.5):
            file = folder / f"note{rng.randrange(20)}.md"
            if file.exists() and rng.random() < 0.3:
                file.unlink()
            else:
                colour = rng.choice(("red", "green", "blue"))
                file.write_text(f"# Note\n\nThe {colour} box has {rng.randrange(999)} pens.\n")

    def _count(self, reply: httpx.Response) -> httpx.Response:
        path = re.sub(r"/(file-|vs_)\w+", "/ID", reply.request.url.path)
        with self._lock:
            self.statuses[f"{reply.request.method} {path} {reply.status_code}"] += 1
        return reply

    def _ask(self, http: httpx.Client, rng: random.Random) -> None:
        messages: list[dict[str, str]] = []
        for _ in range(rng.randint(1, 3)):
            messages.append({"role": "user", "content": rng.choice(_QUESTIONS)})
            started = time.perf_counter()
            reply = self._count(http.post("/v1/chat/completions", json={"messages": messages}))
            if reply.status_code != 200:
                return
            with self._lock:
                self.times.append(time.perf_counter() - started)
            messages.append({"role": "assistant", "content": reply.json()["choices"][0]["message"]["content"]})

    def _disconnect(self, http: httpx.Client, rng: random.Random) -> None:
        body = {"messages": [{"role": "user", "content": rng.choice(_QUESTIONS)}], "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=body) as reply:
            self._count(reply)
            for _ in zip(range(rng.randint(0, 3)), reply.iter_lines(), strict=False):
                pass

    def _search(self, http: httpx.Client, rng: random.Random) -> None:
        self._count(http.post("/v1/search", json={"query": rng.choice(_QUESTIONS)}))

    def _embed(self, http: httpx.Client, rng: random.Random) -> None:
        self._count(http.post("/v1/embeddings", json={"input": [f"text {rng.random()}"] * rng.randint(1, 8)}))

    def _upload(self, http: httpx.Client, rng: random.Random) -> None:
        content = f"# Upload\n\nNumber {rng.random()}.\n".encode()
        upload = http.post("/v1/files", files={"file": ("a.md", content)}, data={"purpose": "assistants"})
        file = self._count(upload).json()["id"]
        store = self._count(http.post("/v1/vector_stores", json={"name": "s", "file_ids": [file]})).json()["id"]
        self._count(http.post(f"/v1/vector_stores/{store}/search", json={"query": "number"}))
        self._count(http.delete(f"/v1/vector_stores/{store}"))
        self._count(http.delete(f"/v1/files/{file}"))

    def _send_invalid(self, http: httpx.Client, rng: random.Random) -> None:
        path, body = rng.choice(_INVALID_REQUESTS)
        self._count(http.post(path, json=body))


def sample(server: Server, load: Load) -> Sample:
    memory_bytes = num_files = num_threads = 0
    for pid in proof.process_ids(server):
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        memory_bytes += 1024 * sum(int(status.get(name, "0").split()[0]) for name in ("RssAnon", "VmSwap"))
        num_threads += int(status["Threads"])
        num_files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    data = server.log.parent / "data"
    wal_bytes = max((path.stat().st_size for path in data.glob("*-wal")), default=0)
    return Sample(load.num_requests, memory_bytes, num_files, num_threads, wal_bytes)


def memory_slope(samples: list[Sample]) -> float:
    """Return the slope of a line through the samples' memory, in bytes a request."""
    requests, memory = [each.num_requests for each in samples], [each.memory_bytes for each in samples]
    return float(np.polyfit(requests, memory, 1)[0])


def put_under_load(server: Server, load: Load, minutes: float) -> list[Sample]:
    samples = []
    threads = [threading.Thread(target=load.client, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=load.edit))
    for thread in threads:
        thread.start()
    end = time.monotonic() + minutes * 60
    try:
        while time.monotonic() < end:
            time.sleep(_SAMPLE_INTERVAL_S)
            samples.append(sample(server, load))
    finally:
        load.is_over.set()
        for thread in threads:
            thread.join()
    return samples


def prove(server: Server, minutes: float, seed: int) -> list[str]:
    """Return what does not hold."""
    load, pids = Load(server, seed), proof.process_ids(server)
    samples = put_under_load(server, load, minutes)
    for reply, count in sorted(load.statuses.items()):
        print(f"{count:7} {reply}")
    steady = samples[len(samples) // 3 :]
    growth = 1000 * memory_slope(steady)
    half = len(load.times) // 2
    early, late = (statistics.quantiles(times, n=20)[-1] for times in (load.times[half // 2 : half], load.times[half:]))
    first, last, wal_bytes = steady[0], steady[-1], max(each.wal_bytes for each in samples)
    print(f"{load.num_requests} requests in {minutes:g} min")
    print(f"memory {last.memory_bytes / 1e6:.0f} MB at the end, {growth / (1 << 20):+.2f} MiB for a thousand requests")
    print(f"open files {first.num_files} to {last.num_files}, threads {first.num_threads} to {last.num_threads}")
    print(f"largest write-ahead log {wal_bytes / 1e6:.1f} MB")
    print(f"p95 of a question {1000 * early:.0f} ms in the second quarter, {1000 * late:.0f} ms in the second half")
    wait_until(lambda: server.get("/readyz").status_code == 200, 30, "readiness")
    num_failures = sum(count for reply, count in load.statuses.items() if reply[-3] == "5")
    checks = {
        "the memory grows": growth <= _MAX_GROWTH_BYTES,
        "open files grow": last.num_files - first.num_files <= 5,
        "threads grow": last.num_threads - first.num_threads <= 5,
        "a write-ahead log grows": wal_bytes <= _MAX_WAL_BYTES,
        "questions get slower": late <= 1.1 * early,
        "a process was restarted": proof.process_ids(server) == pids,
        f"{num_failures} replies were 5xx": num_failures == 0,
    }
    return [problem for problem, holds in checks.items() if not holds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    proof.print_machine()
    with proof.serve_handbook() as server:
        problems = prove(server, options.minutes, options.seed)
        problems += [f"logged: {line}" for line in proof.warnings(server)[:5]]
    return proof.exit_status(problems)


if __name__ == "__main__":
    raise SystemExit(main())
