"""Text of documents and servers is printed without control characters."""

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
def test_no_control_character_is_printed(url: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "anything", "--url", url]) == 0
    output = capsys.readouterr().out
    assert _controls(output) == set()
    assert "a[2Jb]0;titlecd31me" in output
    assert "first\n" in output


def test_an_error_of_the_server_is_printed_as_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "refuse", "--url", url]) == 1
    output = capsys.readouterr().err
    assert (_controls(output), output.count("\n")) == (set(), 1)
    assert output.startswith("cloister: no a[2Jb")


@given(st.text())
def test_strip_controls_removes_control_characters_only(text: str) -> None:
    assert strip_controls(text) == "".join(letter for letter in text if letter not in _controls(text))


@pytest.mark.parametrize(
    ("line", "columns", "fits"),
    [("abc", 4, "abc"), ("abcd", 4, "ab…"), ("abcdef", 5, "abc…"), ("abc", 2, "…"), ("abc", 1, "…"), ("", 80, "")],
)
def test_fit_line_cuts_to_the_columns(line: str, columns: int, fits: str) -> None:
    assert fit_line(line, columns) == fits
