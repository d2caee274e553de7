"""A clock that is wrong, and one that jumps between two starts: everything works all the same.

    .venv/bin/python scripts/prove/clock.py

One data folder, and a server on it at one date after the other, forwards and back, by libfaketime. Each time it must be
ready, answer from what was indexed at the other dates, find a file that is new, and go on with a conversation that was
kept. Ends with status 1 when something of this does not hold. Needs faketime (a Debian package).
"""

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / "e2e")]

from running import Server, serving, wait_until, write_handbook  # noqa: E402

_DATES = (
    "2026-11-23 12:00:00",
    "1999-01-01 00:00:00",
    "2041-06-01 00:00:00",
    "1971-01-01 00:00:00",
    "2026-11-24 00:00:00",
)
# The calendar alone is wrong: without these, waits would never end, and files would seem to be of those dates.
_CALENDAR = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
_QUESTION = "How long is parental leave?"


def prove(server: Server, number: int, kept: str | None) -> str:
    """Gives the id of a response that was kept."""
    if server.get("/readyz").status_code != 200:
        raise SystemExit("it is not ready")
    if "sixteen weeks" not in server.answer(_QUESTION):
        raise SystemExit("no answer from what was indexed before")
    (server.docs / f"{number}.md").write_text(f"# Word {number}\n\nThe word of this date is w{number}w.\n")
    wait_until(lambda: f"w{number}w" in server.answer(f"What is the word of this date, w{number}w?"), 30, "a new file")
    with server.client() as http:
        body = {"input": _QUESTION, "previous_response_id": kept}
        reply = http.post("/v1/responses", json=body)
    if reply.status_code != 200:
        raise SystemExit(f"a conversation that was kept: {reply.text}")
    found: str = reply.json()["id"]
    return found


def main() -> int:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        raise SystemExit("libfaketime is needed")
    with tempfile.TemporaryDirectory() as name:
        docs, kept = write_handbook(Path(name) / "handbook"), None
        for number, date in enumerate(_DATES):
            environment = {**_CALENDAR, "LD_PRELOAD": str(library), "FAKETIME": f"@{date}"}
            with serving(Path(name), docs, environment=environment) as server:
                kept = prove(server, number, kept)
                ended = server.stop()
            print(f"{date}: ready, answered, a new file found, a conversation gone on with; ended with {ended}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
