"""The page's files over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from server.page.files import web_files
from tests.models.scripted import ScriptedChatModel
from tests.server.serving import FakeIndex, serving

HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as found:
        yield found


def test_people_get_the_page_and_ollamas_clients_their_line(client: TestClient[Any]) -> None:
    page = client.get("/", headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert "<title>Cloister</title>" in page.text
    line = client.get("/", headers={"accept": "*/*"})
    assert line.text == "Ollama is running"
    assert page.headers["vary"] == line.headers["vary"] == "Accept"


@pytest.mark.parametrize("name", sorted(web_files()))
def test_files_load_nothing_from_elsewhere_and_are_kept(client: TestClient[Any], name: str) -> None:
    first = client.get(f"/web/{name}")
    assert first.content == web_files()[name].content
    assert first.headers["content-security-policy"].startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'"
    )
    assert first.headers["x-content-type-options"] == "nosniff"
    again = client.get(f"/web/{name}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("told", "is_kept"),
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
def test_a_browser_has_a_file_when_it_names_its_tag(client: TestClient[Any], told: str, is_kept: bool) -> None:
    tag = client.get("/web/app.js").headers["etag"]
    header = told.format(tag=tag, bare=tag.strip('"'))
    answer = client.get("/web/app.js", headers={"if-none-match": header})
    assert (answer.status_code, bool(answer.content)) == ((304, False) if is_kept else (200, True))


def test_a_browser_may_name_tags_in_several_headers(client: TestClient[Any]) -> None:
    tag = client.get("/web/app.js").headers["etag"]
    answer = client.get("/web/app.js", headers=[("if-none-match", '"a"'), ("if-none-match", tag)])
    assert answer.status_code == 304


@pytest.mark.parametrize(
    "name", ["../page.py", "%2e%2e/page.py", "..%2fpage.py", "nothing.js", "vendor", "/etc/passwd"]
)
def test_nothing_else_is_served(client: TestClient[Any], name: str) -> None:
    assert client.get(f"/web/{name}").status_code == 404


def test_all_files_together_are_light() -> None:
    assert sum(len(file.content) for file in web_files().values()) <= 300_000
