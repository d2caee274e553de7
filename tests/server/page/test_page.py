"""The page's files over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from server.page.files import web_files
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as test_client:
        yield test_client


def test_people_get_the_page_and_ollamas_clients_their_line(client: TestClient[Any]) -> None:
    page = client.get("/", headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert "<title>Cloister</title>" in page.text
    line = client.get("/", headers={"accept": "*/*"})
    assert line.text == "Ollama is running"
    assert page.headers["vary"] == line.headers["vary"] == "Accept"


@pytest.mark.parametrize("name", sorted(web_files()))
def test_page_files_have_a_strict_policy_and_are_cached(client: TestClient[Any], name: str) -> None:
    first = client.get(f"/web/{name}")
    assert first.content == web_files()[name].content
    assert first.headers["content-security-policy"].startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'"
    )
    assert first.headers["x-content-type-options"] == "nosniff"
    again = client.get(f"/web/{name}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("reply", "is_kept"),
    [
        ("{tag}", True),
        ('"a", W/{tag} , "b"', True),
        (" * ", True),
        ("{bare}", False),
        ('"x{bare}"', False),
        ('"{bare}x"', False),
        ('"a,{bare}"', False),
        ('"*"', False),
        ('W/"", "', False),
        ("", False),
    ],
)
def test_if_none_match_is_answered_with_304_for_a_known_tag(client: TestClient[Any], reply: str, is_kept: bool) -> None:
    tag = client.get("/web/app.js").headers["etag"]
    header = reply.format(tag=tag, bare=tag.strip('"'))
    answer = client.get("/web/app.js", headers={"if-none-match": header})
    assert (answer.status_code, bool(answer.content)) == ((304, False) if is_kept else (200, True))


def test_if_none_match_may_come_in_several_headers(client: TestClient[Any]) -> None:
    tag = client.get("/web/app.js").headers["etag"]
    answer = client.get("/web/app.js", headers=[("if-none-match", '"a"'), ("if-none-match", tag)])
    assert answer.status_code == 304


@pytest.mark.parametrize(
    "name", ["../page.py", "%2e%2e/page.py", "..%2fpage.py", "nothing.js", "vendor", "/etc/passwd"]
)
def test_paths_outside_the_page_are_not_served(client: TestClient[Any], name: str) -> None:
    assert client.get(f"/web/{name}").status_code == 404


def test_page_files_stay_within_their_size() -> None:
    assert sum(len(file.content) for file in web_files().values()) <= 300_000
