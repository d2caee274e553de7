"""A trial run of this installation: `python -P -m server.ops.trial FOLDER`.

Starts the server with a document of its own, asks about it and stops it; prints what came of it, a line of JSON. For
`server.ops.airgap`, which runs this where there is no network. Uses none but the machine's own loopback.
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
    """`trouble`: one line; "" when the question was answered from the document."""

    trouble: str
    seconds: float


def run(folder: Path) -> Trial:
    docs, log, started = folder / "docs", folder / "log", time.monotonic()
    docs.mkdir()
    (docs / "leave.md").write_text(_DOCUMENT)
    command = [sys.executable, "-P", "-m", "server", "serve", f"--docs={docs}", f"--data={folder / 'data'}", "--port=0"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        trouble = _trouble(server, log)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    return Trial(trouble, round(time.monotonic() - started, 1))


def _trouble(server: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + _START_S
    while not (ready := _READY.search(log.read_text())):
        if server.poll() is not None or time.monotonic() > until:
            return (log.read_text().strip().splitlines() or ["it did not start"])[-1]
        time.sleep(0.1)
    body, until = {"messages": [{"role": "user", "content": _QUESTION}]}, time.monotonic() + _ANSWER_S
    said = ""
    with httpx2.Client(base_url=ready[1], timeout=_ANSWER_S, trust_env=False) as client:
        while _IN_ANSWER not in said:
            if time.monotonic() > until:
                return f"it answered: {said[:200]}"
            with contextlib.suppress(httpx2.HTTPError):
                said = client.post("/v1/chat/completions", json=body).text
            time.sleep(0.1)
    return ""


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(run(Path(sys.argv[1]))).decode() + "\n")
