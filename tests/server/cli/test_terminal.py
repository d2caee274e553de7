"""What terminals are shown of documents, models and servers that others wrote."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.main import main
from server.cli.terminal import fit_line, strip_controls

HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\rd\x9b31me\x7f"
PASSAGE = {
    "collection": "notes",
    "path": f"{HOSTILE}.md",
    "heading": [HOSTILE],
    "place": None,
    "lines": [1, 2],
    "url": "http://127.0.0.1/documents/1",
    "text": f"first\n{HOSTILE}\n",
}
CITATION = {"url_citation": {"number": 1, "title": HOSTILE, "url": "http://127.0.0.1/documents/1"}}
CHUNK = {"choices": [{"delta": {"content": f"first\n{HOSTILE}", "annotations": [CITATION]}}]}


class _Hostile(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("query") == "refuse":
            self._reply(400, json.dumps({"error": {"message": f"no\n{HOSTILE}"}}))
        elif "query" in body:
            self._reply(200, json.dumps({"data": [PASSAGE]}))
        else:
            self._reply(200, f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n")

    def _reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hostile) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _controls(text: str) -> set[str]:
    return {letter for letter in text if (ord(letter) < 32 or 127 <= ord(letter) < 160) and letter not in "\n\t"}


@pytest.mark.parametrize("command", ["ask", "search"])
def test_no_document_speaks_to_the_terminal(url: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "anything", "--url", url]) == 0
    said = capsys.readouterr().out
    assert _controls(said) == set()
    assert "a[2Jb]0;titlecd31me" in said
    assert "first\n" in said


def test_what_a_server_says_against_it_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "refuse", "--url", url]) == 1
    said = capsys.readouterr().err
    assert (_controls(said), said.count("\n")) == (set(), 1)
    assert said.startswith("cloister: no a[2Jb")


@given(st.text())
def test_only_controls_are_left_out(text: str) -> None:
    assert strip_controls(text) == "".join(letter for letter in text if letter not in _controls(text))


@pytest.mark.parametrize(
    ("line", "columns", "fits"),
    [("abc", 4, "abc"), ("abcd", 4, "ab…"), ("abcdef", 5, "abc…"), ("abc", 2, "…"), ("abc", 1, "…"), ("", 80, "")],
)
def test_a_line_stays_one(line: str, columns: int, fits: str) -> None:
    assert fit_line(line, columns) == fits
