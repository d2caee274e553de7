"""More requests at once than slots and queue hold: the server accepts exactly those, and refuses the others at once."""

import contextlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
import pytest
from real_server import Server, serving, wait_until, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

NUM_SLOTS, MAX_QUEUE, NUM_MORE = 2, 6, 60
ENDLESS = {
    "model": "reader-v1",
    "max_tokens": 15_000,
    "logit_bias": {"1": -100},  # never the end token
    "messages": [{"role": "user", "content": "hello"}],
    "stream": True,
}


@pytest.fixture
def server(tmp_path: Path) -> "contextlib.AbstractContextManager[Server]":
    (tmp_path / "cloister.toml").write_text(
        f"[engine]\nn_ctx = 16384\nnum_slots = {NUM_SLOTS}\nmax_queue = {MAX_QUEUE}\n"
    )
    return serving(tmp_path, write_handbook(tmp_path / "handbook"))


def test_requests_over_the_queue_limit_are_refused_and_the_server_recovers(
    server: "contextlib.AbstractContextManager[Server]",
) -> None:
    with server as running, contextlib.ExitStack() as stack, httpx.Client(trust_env=False) as http:
        memory = resident_kib(running.process.pid)

        def open_stream(_: int) -> httpx.Response:
            return stack.enter_context(
                httpx.stream("POST", f"{running.url}/v1/chat/completions", json=ENDLESS, trust_env=False, timeout=60)
            )

        with ThreadPoolExecutor(NUM_SLOTS + MAX_QUEUE) as pool:  # together: each has its headers after a while only
            streams = list(pool.map(open_stream, range(NUM_SLOTS + MAX_QUEUE)))
        assert [stream.status_code for stream in streams] == [200] * len(streams)
        with ThreadPoolExecutor(20) as pool:
            refusals = list(pool.map(lambda _: request_refusal(running.url), range(NUM_MORE)))
        assert Counter(refusal.status for refusal in refusals) == {429: NUM_MORE}
        assert all(refusal.retry_after.isdecimal() and int(refusal.retry_after) > 0 for refusal in refusals)
        assert median(refusal.processing_s for refusal in refusals) < 1.0
        assert median(refusal.extra_s for refusal in refusals) < 1.0
        assert http.get(f"{running.url}/livez").status_code == 200
        assert resident_kib(running.process.pid) - memory < 30_000
        stack.close()
        wait_until(lambda: running.ask("How long is parental leave?").status_code == 200, 30, "room again")
        assert "sixteen weeks" in running.answer("How long is parental leave?")


class Refusal(NamedTuple):
    status: int
    retry_after: str
    processing_s: float  # by the server's clock
    extra_s: float  # its round trip, less that of /livez just before: the machine may be busy with something else


def request_refusal(url: str) -> Refusal:
    started = time.perf_counter()
    assert httpx.get(f"{url}/livez", trust_env=False, timeout=60).status_code == 200
    alive = time.perf_counter()
    reply = httpx.post(f"{url}/v1/chat/completions", json=ENDLESS, trust_env=False, timeout=60)
    extra_s = time.perf_counter() - alive - (alive - started)
    headers = reply.headers
    return Refusal(
        reply.status_code, headers.get("retry-after", ""), int(headers["openai-processing-ms"]) / 1000, extra_s
    )


def resident_kib(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
