"""Clients that go away at random instants leak no slot and leave nothing running.

    .venv/bin/python scripts/prove/disconnects.py [--clients 500] [--seed 1]

A real server with the built-in model and its eight slots. Each client opens a raw connection, asks for an answer (half
of them for one that does not end before the context is full; some ask for several answers, some for a tool call, half
for a stream) and closes it at a random instant: before its request is whole, in the queue, while the prompt is read, in
the middle of the answer, about its end; some close their own half first. Afterwards the engine must stop using the
processor, eight requests must all have begun before any is half done (so all slots are free; that nine have not shows
that this can be told), no process may have been restarted or have grown by more than 100 MB since the first hundred
clients, and nothing may have been logged. Ends with status 1 when something of this does not hold.
"""

import argparse
import json
import os
import platform
import random
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / "e2e")]

from running import Server, children, serving, write_handbook  # noqa: E402

_SLOTS = 8  # of the server, as it is unless told otherwise
_AT_ONCE = 3 * _SLOTS  # connections open at the same time
_ENDS = range(1, 8)  # tokens that may end an answer of the built-in model
_LONGEST_S = 1.5  # a connection is held
_GROWTH = 100_000_000  # bytes
_QUIET_S = 2.0
_SLOWEST_S = 5.0  # until the first token of one of eight
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def request(random: random.Random, host: str) -> bytes:
    words = " ".join(
        random.choice(["leave", "train", "key", "cabinet", "flight"]) for _ in range(random.randint(5, 400))
    )
    body: dict[str, Any] = {
        "model": random.choice(["reader-v1", "reader-v1", "cloister"]),
        "messages": [{"role": "user", "content": words}],
        "logit_bias": dict.fromkeys(map(str, _ENDS), -100),
        "stream": random.random() < 0.5,
        "n": random.choice([1, 1, 2, 3]),
    }
    if random.random() < 0.5:  # ends while the client may still be there
        body |= {"max_tokens": random.randint(1, 60)}
    if random.random() < 0.2:
        body |= {"tools": [TOOL], "tool_choice": "required"}
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def come_and_go(url: str, seed: int) -> None:
    """One client. A server that resets the connection first is no failure of it."""
    generator = random.Random(seed)
    address = urlsplit(url)
    whole = request(generator, address.netloc)
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        try:
            if generator.random() < 0.15:  # leaves in the middle of its own sentence
                connection.sendall(whole[: generator.randrange(len(whole))])
            else:
                connection.sendall(whole)
            if generator.random() < 0.1:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.05)
            deadline = time.monotonic() + _LONGEST_S * generator.random() ** 2
            while time.monotonic() < deadline:
                try:
                    if not connection.recv(65536):
                        return
                except TimeoutError:
                    continue
        except OSError:
            return


def come_all(server: Server, num_clients: int, seed: int) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda number: come_and_go(server.url, seed * 100_000 + number), range(num_clients)))


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Served(NamedTuple):
    """When one answer's first and last tokens came."""

    first: float
    last: float


def serve_together(server: Server, number: int) -> list[Served]:
    """So many answers of some length, asked for at the same moment and read to their ends. Seconds since then."""
    barrier = threading.Barrier(number)

    def ask(number: int) -> Served:
        body = {
            "model": "reader-v1",
            "messages": [{"role": "user", "content": f"Say {number}"}],
            "logit_bias": dict.fromkeys(map(str, _ENDS), -100),
            "stream": True,
            "max_tokens": 400,
        }
        with server.client() as http:
            barrier.wait()
            started = time.monotonic()
            with http.stream("POST", "/v1/chat/completions", json=body) as response:
                times = [
                    time.monotonic() - started
                    for line in response.iter_lines()
                    if '"content":"' in line and '"content":""' not in line
                ]
        return Served(times[0], times[-1])

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(ask, range(number)))


def is_at_once(served: list[Served]) -> bool:
    """Whether each had begun before any was half done, so that each had a slot: who waits for one begins at an end."""
    return max(each.first for each in served) < 0.5 * min(each.last for each in served)


def prove(server: Server, num_clients: int, seed: int) -> list[str]:
    """What does not hold."""
    come_all(server, 100, seed + 1)  # buffers have grown to their size, and are no leak
    before = {pid: (name, resident(pid)) for pid, name in children(server.process.pid)}
    before[server.process.pid] = "server", resident(server.process.pid)
    engine = server.child("models.llm.llama.process")
    assert engine is not None
    log = server.log.read_text()
    problems = []
    if is_at_once(served := serve_together(server, _SLOTS + 1)):
        problems.append(f"this would see no leak, as {_SLOTS} slots answered one more at once: {sorted(served)}")
    print(f"last first token of eight: {max(serve_together(server, _SLOTS)).first:.2f} s")
    started = time.monotonic()
    come_all(server, num_clients, seed)
    print(f"{num_clients} clients came and went in {time.monotonic() - started:.0f} s")
    time.sleep(1)  # for what was under way: a step, a body
    used = processor_s(engine)
    time.sleep(_QUIET_S)
    if (used := processor_s(engine) - used) > 0.1 * _QUIET_S:
        problems.append(f"the engine goes on for nobody: {used:.2f} s of processor in {_QUIET_S} s")
    served = serve_together(server, _SLOTS)
    print(f"last first token of eight, afterwards: {max(served).first:.2f} s")
    if not is_at_once(served) or max(served).first > _SLOWEST_S:
        problems.append(f"eight requests are not served at once: {sorted(served)}")
    now = dict(children(server.process.pid))
    for pid, (name, size) in before.items():
        if pid != server.process.pid and pid not in now:
            problems.append(f"{name} was restarted")
            continue
        growth = resident(pid) - size
        print(f"{growth / 1e6:+.1f} MB: {name.split(' -m ')[-1]}")
        if growth > _GROWTH:
            problems.append(f"{name} has grown by {growth / 1e6:.0f} MB")
    if server.log.read_text() != log:
        problems.append(f"the log says: {server.log.read_text()[len(log) :]}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, write_handbook(folder / "handbook")) as server:
            problems = prove(server, options.clients, options.seed)
    print("\n".join(problems) or "all of it holds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
