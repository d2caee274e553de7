"""More requests at once than there is room for: exactly the room is given, and the others are told at once."""

import contextlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from running import Server, serving, wait_until, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SLOTS, QUEUE, MANY = 2, 6, 60
ENDLESS = {
    "model": "reader-v1",
    "max_tokens": 15_000,
    "logit_bias": {"1": -100},  # never the end token
    "messages": [{"role": "user", "content": "hello"}],
    "stream": True,
}


@pytest.fixture
def server(tmp_path: Path) -> "contextlib.AbstractContextManager[Server]":
    (tmp_path / "cloister.toml").write_text(f"[engine]\nn_ctx = 16384\nn_slots = {SLOTS}\nmax_queue = {QUEUE}\n")
    return serving(tmp_path, write_handbook(tmp_path / "handbook"))


def test_the_queue_is_bounded_and_the_server_well_afterwards(
    server: "contextlib.AbstractContextManager[Server]",
) -> None:
    with server as running, contextlib.ExitStack() as stack, httpx.Client(trust_env=False) as http:
        memory = _resident(running.process.pid)
        streams = [
            stack.enter_context(
                httpx.stream("POST", f"{running.url}/v1/chat/completions", json=ENDLESS, trust_env=False, timeout=60)
            )
            for _ in range(SLOTS + QUEUE)
        ]
        assert [stream.status_code for stream in streams] == [200] * len(streams)

        def ask(_: int) -> tuple[int, str | None, float]:
            started = time.perf_counter()
            reply = httpx.post(f"{running.url}/v1/chat/completions", json=ENDLESS, trust_env=False, timeout=60)
            return reply.status_code, reply.headers.get("retry-after"), time.perf_counter() - started

        with ThreadPoolExecutor(20) as pool:
            told = list(pool.map(ask, range(MANY)))
        assert Counter(status for status, _, _ in told) == {429: MANY}
        assert all(after is not None and after.isdecimal() and int(after) > 0 for _, after, _ in told)
        assert sorted(took for _, _, took in told)[MANY // 2] < 1.0
        assert http.get(f"{running.url}/livez").status_code == 200
        assert _resident(running.process.pid) - memory < 30_000
        stack.close()
        wait_until(lambda: running.ask("How long is parental leave?").status_code == 200, 30, "room again")
        assert "sixteen weeks" in running.answer("How long is parental leave?")


def _resident(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
