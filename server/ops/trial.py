"""A trial run of this installation: `python -P -m server.ops.trial FOLDER`.

Starts the server with a document, asks a question about it, stops the server, and prints a `Trial` as JSON. Uses the
loopback interface only. `server.ops.airgap` runs this in a namespace without a network.
"""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import msgspec

_DOCUMENT = "# Leave\n\nParental leave is sixteen weeks with full pay.\n"
_QUESTION, _IN_ANSWER = "How long is parental leave?", "sixteen weeks"
_READY = re.compile(r"Ready:\s+(http://\S+)/v1")
_START_S, _ANSWER_S = 240.0, 60.0  # the first start of an installation converts the embedding model


class Trial(msgspec.Struct, frozen=True):
    """`trouble` is one line, "" if the question was answered from the document. `seconds` is the time of the run."""

    trouble: str
    seconds: float


def run(folder: Path) -> Trial:
    """Do the trial run in an empty folder."""
    docs, log, started = folder / "docs", folder / "log", time.monotonic()
    docs.mkdir()
    (docs / "leave.md").write_text(_DOCUMENT)
    command = [sys.executable, "-P", "-m", "server", "serve", f"--docs={docs}", f"--data={folder / 'data'}", "--port=0"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        trouble = _find_trouble(server, log)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    return Trial(trouble, round(time.monotonic() - started, 1))


def _find_trouble(server: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait for the start and ask the question. Return why no answer came, "" if one did."""
    deadline = time.monotonic() + _START_S
    while not (ready := _READY.search(log.read_text())):
        if server.poll() is not None or time.monotonic() > deadline:
            return (log.read_text().strip().splitlines() or ["the server did not start"])[-1]
        time.sleep(0.1)
    body, deadline = {"messages": [{"role": "user", "content": _QUESTION}]}, time.monotonic() + _ANSWER_S
    reply = ""
    with httpx2.Client(base_url=ready[1], timeout=_ANSWER_S, trust_env=False) as client:
        while _IN_ANSWER not in reply:
            if time.monotonic() > deadline:
                return f"the server answered: {reply[:200]}"
            with contextlib.suppress(httpx2.HTTPError):
                reply = client.post("/v1/chat/completions", json=body).text
            time.sleep(0.1)
    return ""


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(run(Path(sys.argv[1]))).decode() + "\n")
