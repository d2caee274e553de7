"""Prove that clients that disconnect at random instants leak no slot and leave nothing running.

    .venv/bin/python scripts/prove/disconnects.py [--clients 500] [--seed 1]

A real server with the built-in model and its eight slots. Each client opens a raw connection, sends a chat request
(half of them for an answer that fills the context; some for several answers or a tool call; half for a stream) and
closes the connection at a random instant: before its request is complete, in the queue, during prefill, during the
answer, or about its end; some close their own half first. Afterwards the engine must stop using the processor, and
eight concurrent requests must all have begun before any is half done, so all slots are free (that nine have not shows
that the check detects a leak). No process may have been restarted, or have grown by more than 100 MB since the first
hundred clients, and nothing may have been logged. The exit status is 1 when one of these fails.
"""

import argparse
import json
import os
import random
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import proof
from real_server import Server, children, cpu_s

_NUM_SLOTS = 8  # the server's default
_NUM_CONNECTIONS = 3 * _NUM_SLOTS  # open at the same time
_END_TOKENS = range(1, 8)  # those that may end an answer of the built-in model
_MAX_CONNECTION_S = 1.5
_MAX_GROWTH_BYTES = 100_000_000
_QUIET_S = 2.0
_MAX_FIRST_TOKEN_S = 5.0  # of eight concurrent requests
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def request(random: random.Random, host: str) -> bytes:
    words = " ".join(
        random.choice(["leave", "train", "key", "cabinet", "flight"]) for _ in range(random.randint(5, 400))
    )
    body: dict[str, Any] = {
        "model": random.choice(["reader-v1", "reader-v1", "cloister"]),
        "messages": [{"role": "user", "content": words}],
        "logit_bias": dict.fromkeys(map(str, _END_TOKENS), -100),
        "stream": random.random() < 0.5,
        "n": random.choice([1, 1, 2, 3]),
    }
    if random.random() < 0.5:  # may end before the client disconnects
        body |= {"max_tokens": random.randint(1, 60)}
    if random.random() < 0.2:
        body |= {"tools": [TOOL], "tool_choice": "required"}
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def send_and_disconnect(url: str, seed: int) -> None:
    """Run one client. The server may reset the connection first."""
    generator = random.Random(seed)
    address = urlsplit(url)
    whole = request(generator, address.netloc)
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        try:
            if generator.random() < 0.15:  # disconnects before its request is complete
                connection.sendall(whole[: generator.randrange(len(whole))])
            else:
                connection.sendall(whole)
            if generator.random() < 0.1:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.05)
            deadline = time.monotonic() + _MAX_CONNECTION_S * generator.random() ** 2
            while time.monotonic() < deadline:
                try:
                    if not connection.recv(65536):
                        return
                except TimeoutError:
                    continue
        except OSError:
            return


def run_clients(server: Server, num_clients: int, seed: int) -> None:
    with ThreadPoolExecutor(_NUM_CONNECTIONS) as pool:
        list(pool.map(lambda number: send_and_disconnect(server.url, seed * 100_000 + number), range(num_clients)))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class AnswerTimes(NamedTuple):
    """Seconds from the request to the first and the last token of an answer."""

    first_s: float
    last_s: float


def answer_concurrently(server: Server, count: int) -> list[AnswerTimes]:
    """Send `count` requests at the same moment and read their long answers to the end."""
    barrier = threading.Barrier(count)

    def ask(number: int) -> AnswerTimes:
        body = {
            "model": "reader-v1",
            "messages": [{"role": "user", "content": f"Say {number}"}],
            "logit_bias": dict.fromkeys(map(str, _END_TOKENS), -100),
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
        return AnswerTimes(times[0], times[-1])

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def is_concurrent(answers: list[AnswerTimes]) -> bool:
    """Return whether each had begun before any was half done: an answer that waits for a slot begins at an end."""
    return max(each.first_s for each in answers) < 0.5 * min(each.last_s for each in answers)


def check_growth(server: Server, before: dict[int, tuple[str, int]]) -> list[str]:
    """Return what is wrong with the processes. `before`: command line and resident bytes by process id."""
    problems, pids = [], proof.process_ids(server)
    for pid, (name, size) in before.items():
        if pid not in pids:
            problems.append(f"{name} was restarted")
            continue
        growth = resident_bytes(pid) - size
        print(f"{growth / 1e6:+.1f} MB: {name.split(' -m ')[-1]}")
        if growth > _MAX_GROWTH_BYTES:
            problems.append(f"{name} has grown by {growth / 1e6:.0f} MB")
    return problems


def prove(server: Server, num_clients: int, seed: int) -> list[str]:
    """Return what does not hold."""
    run_clients(server, 100, seed + 1)  # so that buffers have their final size
    before = {pid: (name, resident_bytes(pid)) for pid, name in children(server.process.pid)}
    before[server.process.pid] = "server", resident_bytes(server.process.pid)
    engine = server.child("models.llm.llama.process")
    assert engine is not None
    log = server.log.read_text()
    problems = []
    if is_concurrent(answers := answer_concurrently(server, _NUM_SLOTS + 1)):
        problems.append(f"a leak would not be detected, as {_NUM_SLOTS} slots answered one more: {sorted(answers)}")
    print(f"last first token of eight: {max(answer_concurrently(server, _NUM_SLOTS)).first_s:.2f} s")
    started = time.monotonic()
    run_clients(server, num_clients, seed)
    print(f"{num_clients} clients connected and disconnected in {time.monotonic() - started:.0f} s")
    time.sleep(1)  # for the step and the replies in progress
    used = cpu_s(engine)
    time.sleep(_QUIET_S)
    if (used := cpu_s(engine) - used) > 0.1 * _QUIET_S:
        problems.append(f"the engine works without a client: {used:.2f} s of processor time in {_QUIET_S} s")
    answers = answer_concurrently(server, _NUM_SLOTS)
    print(f"last first token of eight, afterwards: {max(answers).first_s:.2f} s")
    if not is_concurrent(answers) or max(answers).first_s > _MAX_FIRST_TOKEN_S:
        problems.append(f"eight requests are not served concurrently: {sorted(answers)}")
    problems += check_growth(server, before)
    if server.log.read_text() != log:
        problems.append(f"logged: {server.log.read_text()[len(log) :]}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    proof.print_machine()
    with proof.serve_handbook() as server:
        problems = prove(server, options.clients, options.seed)
    return proof.exit_status(problems)


if __name__ == "__main__":
    sys.exit(main())
