"""Prove that a server works with a wrong clock, and with one that jumps between two starts.

    .venv/bin/python scripts/prove/clock.py

A server is started on the same data folder at one date after the other, forwards and back, by libfaketime. Each time
it must become ready, answer from what was indexed at the other dates, index a new file, and continue a stored
conversation. The exit status is 1 when one of these fails. Needs faketime (a Debian package).
"""

import tempfile
from pathlib import Path

from real_server import Server, serving, wait_until, write_handbook

_DATES = (
    "2026-11-23 12:00:00",
    "1999-01-01 00:00:00",
    "2041-06-01 00:00:00",
    "1971-01-01 00:00:00",
    "2026-11-24 00:00:00",
)
# Only the calendar is wrong. With wrong monotonic clocks waits would never end, and with wrong times of files they
# would seem to change.
_CALENDAR_ONLY = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
_QUESTION = "How long is parental leave?"


def prove(server: Server, number: int, previous_response_id: str | None) -> str:
    """Check a server and return the id of the response that it stored."""
    if server.get("/readyz").status_code != 200:
        raise SystemExit("the server is not ready")
    if "sixteen weeks" not in server.answer(_QUESTION):
        raise SystemExit("no answer from what was indexed before")
    (server.docs / f"{number}.md").write_text(f"# Word {number}\n\nThe word of this date is w{number}w.\n")
    wait_until(lambda: f"w{number}w" in server.answer(f"What is the word of this date, w{number}w?"), 30, "a new file")
    with server.client() as http:
        body = {"input": _QUESTION, "previous_response_id": previous_response_id}
        reply = http.post("/v1/responses", json=body)
    if reply.status_code != 200:
        raise SystemExit(f"the stored conversation cannot be continued: {reply.text}")
    response_id: str = reply.json()["id"]
    return response_id


def main() -> int:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        raise SystemExit("install libfaketime")
    with tempfile.TemporaryDirectory() as name:
        docs, response_id = write_handbook(Path(name) / "handbook"), None
        for number, date in enumerate(_DATES):
            environment = {**_CALENDAR_ONLY, "LD_PRELOAD": str(library), "FAKETIME": f"@{date}"}
            with serving(Path(name), docs, environment=environment) as server:
                response_id = prove(server, number, response_id)
                status = server.stop()
            print(f"{date}: ready, answered, indexed a new file, continued a conversation; exit status {status}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
