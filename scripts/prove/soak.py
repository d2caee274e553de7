"""A server under mixed work for a long time neither grows nor slows, and no process of it is started again.

    .venv/bin/python scripts/prove/soak.py [--minutes 30] [--seed 1]

A real server with the built-in models. Four clients ask grounded questions whole and streamed, go on with
conversations, leave in the middle, search, embed, upload files and put them into stores and take them away again, and
get things wrong; a fifth edits the watched folder. Every few seconds the memory that is the processes' own (RssAnon and
VmSwap, so that nothing hides in the swap), open files, threads, the databases' write-ahead logs and the time of each
question are noted. After a warm-up of a third of the time, a line is laid through the memory, which may grow by 1 MiB
for a thousand requests; open files and threads may grow by five, the slowest questions of the second half may be a
tenth slower than those of the quarter before. Ends with status 1 when something of this does not hold.
"""

import argparse
import contextlib
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / "e2e")]

from running import Server, children, serving, wait_until, write_handbook  # noqa: E402

_LOOK_S = 5.0
_GROWTH = 1 << 20  # bytes for a thousand requests
_WAL = 64 << 20  # bytes
_QUESTIONS = (
    "How long is parental leave?",
    "Who pays for train tickets?",
    "Where are the keys kept?",
    "And on Mondays?",
)
_WRONG: tuple[tuple[str, object], ...] = (
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}),
    ("/v1/search", {"query": 7}),
    ("/v1/nothing", {}),
)


class Look(NamedTuple):
    """At one moment, over all processes. `memory` and `wal` in bytes."""

    num_requests: int
    memory: int
    num_files: int
    num_threads: int
    wal: int


class Load:
    """What the clients do, and how long a question took."""

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
        works = (self._ask, self._ask, self._ask, self._leave, self._search, self._embed, self._upload, self._err)
        with self._server.client() as http:
            while not self.is_over.is_set():
                work = rng.choice(works)
                with contextlib.suppress(httpx.TransportError):
                    work(http, rng)

    def edit(self) -> None:
        rng, folder = random.Random(self._seed), self._server.docs
        while not self.is_over.wait(0.5):
            file = folder / f"note{rng.randrange(20)}.md"
            if file.exists() and rng.random() < 0.3:
                file.unlink()
            else:
                colour = rng.choice(("red", "green", "blue"))
                file.write_text(f"# Note\n\nThe {colour} box has {rng.randrange(999)} pens.\n")

    def _note(self, reply: httpx.Response) -> httpx.Response:
        path = re.sub(r"/(file-|vs_)\w+", "/ID", reply.request.url.path)
        with self._lock:
            self.statuses[f"{reply.request.method} {path} {reply.status_code}"] += 1
        return reply

    def _ask(self, http: httpx.Client, rng: random.Random) -> None:
        messages: list[dict[str, str]] = []
        for _ in range(rng.randint(1, 3)):
            messages.append({"role": "user", "content": rng.choice(_QUESTIONS)})
            started = time.perf_counter()
            reply = self._note(http.post("/v1/chat/completions", json={"messages": messages}))
            if reply.status_code != 200:
                return
            with self._lock:
                self.times.append(time.perf_counter() - started)
            messages.append({"role": "assistant", "content": reply.json()["choices"][0]["message"]["content"]})

    def _leave(self, http: httpx.Client, rng: random.Random) -> None:
        body = {"messages": [{"role": "user", "content": rng.choice(_QUESTIONS)}], "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=body) as reply:
            self._note(reply)
            for _ in zip(range(rng.randint(0, 3)), reply.iter_lines(), strict=False):
                pass

    def _search(self, http: httpx.Client, rng: random.Random) -> None:
        self._note(http.post("/v1/search", json={"query": rng.choice(_QUESTIONS)}))

    def _embed(self, http: httpx.Client, rng: random.Random) -> None:
        self._note(http.post("/v1/embeddings", json={"input": [f"text {rng.random()}"] * rng.randint(1, 8)}))

    def _upload(self, http: httpx.Client, rng: random.Random) -> None:
        content = f"# Upload\n\nNumber {rng.random()}.\n".encode()
        form = {"files": {"file": ("a.md", content)}, "data": {"purpose": "assistants"}}
        file = self._note(http.post("/v1/files", **form)).json()["id"]
        store = self._note(http.post("/v1/vector_stores", json={"name": "s", "file_ids": [file]})).json()["id"]
        self._note(http.post(f"/v1/vector_stores/{store}/search", json={"query": "number"}))
        self._note(http.delete(f"/v1/vector_stores/{store}"))
        self._note(http.delete(f"/v1/files/{file}"))

    def _err(self, http: httpx.Client, rng: random.Random) -> None:
        path, body = rng.choice(_WRONG)
        self._note(http.post(path, json=body))


def look(server: Server, load: Load) -> Look:
    pids = family(server)
    memory = num_files = num_threads = 0
    for pid in pids:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        memory += 1024 * sum(int(status.get(name, "0").split()[0]) for name in ("RssAnon", "VmSwap"))
        num_threads += int(status["Threads"])
        num_files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    data = server.log.parent / "data"
    wal = max((path.stat().st_size for path in data.glob("*-wal")), default=0)
    return Look(load.num_requests, memory, num_files, num_threads, wal)


def family(server: Server) -> list[int]:
    """The server and what it started, but for those that read documents, which come and go."""
    return [server.process.pid, *(pid for pid, _ in children(server.process.pid))]


def slope(looks: list[Look], values: list[int]) -> float:
    """Of a line through the values, for each request."""
    return float(np.polyfit([each.num_requests for each in looks], values, 1)[0])


def prove(server: Server, minutes: float, seed: int) -> list[str]:
    """What does not hold."""
    load, looks = Load(server, seed), list[Look]()
    before = family(server)
    threads = [threading.Thread(target=load.client, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=load.edit))
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    try:
        while time.monotonic() - begun < minutes * 60:
            time.sleep(_LOOK_S)
            looks.append(look(server, load))
    finally:
        load.is_over.set()
        for thread in threads:
            thread.join()
    for told, number in sorted(load.statuses.items()):
        print(f"{number:7} {told}")
    steady = looks[len(looks) // 3 :]
    growth = 1000 * slope(steady, [each.memory for each in steady])
    half = len(load.times) // 2
    early, late = (statistics.quantiles(times, n=20)[-1] for times in (load.times[half // 2 : half], load.times[half:]))
    first, last, wal = steady[0], steady[-1], max(each.wal for each in looks)
    print(f"{load.num_requests} requests in {minutes:g} min")
    print(f"memory {last.memory / 1e6:.0f} MB at the end, {growth / (1 << 20):+.2f} MiB for a thousand requests")
    print(f"open files {first.num_files} to {last.num_files}, threads {first.num_threads} to {last.num_threads}")
    print(f"largest write-ahead log {wal / 1e6:.1f} MB")
    print(f"p95 of a question {1000 * early:.0f} ms in the second quarter, {1000 * late:.0f} ms in the second half")
    wait_until(lambda: server.get("/readyz").status_code == 200, 30, "readiness")
    failures = sum(number for told, number in load.statuses.items() if told[-3] == "5")
    return [
        text
        for is_wrong, text in (
            (growth > _GROWTH, "the memory grows"),
            (last.num_files - first.num_files > 5, "open files grow"),
            (last.num_threads - first.num_threads > 5, "threads grow"),
            (wal > _WAL, "a write-ahead log grows"),
            (late > 1.1 * early, "questions get slower"),
            (family(server) != before, "a process was started again"),
            (failures > 0, f"{failures} replies were 5xx"),
        )
        if is_wrong
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serving(folder, write_handbook(folder / "handbook")))
        wrong = prove(server, options.minutes, options.seed)
        logged = [line for line in server.log.read_text().splitlines() if line.startswith(("WARN", "ERR"))]
        wrong += [f"logged: {line}" for line in logged[:5]]
    print("\n".join(wrong) or "all of it holds")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
