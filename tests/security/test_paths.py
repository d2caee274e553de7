"""No client names a path: whatever stands for an id, a name or a file, nothing outside is opened and nothing told."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from litestar.testing import TestClient

from tests.models.scripted import ScriptedChatModel
from tests.server.serving import FakeIndex, serving

SECRET = "the canary sings at midnight"


def traversals(canary: Path) -> list[str]:
    """Ways to say where the canary is, and other names that are none."""
    name, whole = canary.name, str(canary)
    dots = [f"{'../' * depth}{name}" for depth in range(1, 9)] + [f"{'..%2f' * depth}{name}" for depth in range(1, 4)]
    windows = [f"..\\{name}", f"..\\..\\{name}", f"C:\\{name}", f"\\\\server\\{name}", f"//server/{name}"]
    spelled = [
        f"．．/{name}",
        f"‥/{name}",
        f"..∕{name}",
        f"..⁄{name}",
        f"..／{name}",
        f"%2e%2e/{name}",
        f"%252e%252e%252f{name}",
        f"..%c0%af{name}",
        f"..;/{name}",
        f"....//{name}",
        f"./.././{name}",
    ]
    wholes = [whole, f"/{whole}", f"file://{whole}", whole.lstrip("/"), f"{whole}\0.md", f"{whole}%00.md", f"~/{name}"]
    known = ["/etc/passwd", "../../../../etc/passwd", "/proc/self/environ", "/dev/zero", "con", "nul.txt", "."]
    return [
        *dots,
        *windows,
        *spelled,
        *wholes,
        *known,
        "..",
        "../",
        "",
        " ",
        "a" * 300,
        "a/" * 200,
        "-rf",
        "$HOME",
        "|id",
    ]


class Watch:
    """What is opened while it is on. An audit hook is for ever, so there is one."""

    def __init__(self) -> None:
        self.is_on = False
        self.opened: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.is_on and event in ("open", "os.listdir", "os.scandir") and args and isinstance(args[0], (str, bytes)):
            path = args[0] if isinstance(args[0], str) else args[0].decode(errors="replace")
            self.opened.append(path)


WATCH: list[Watch] = []


@pytest.fixture
def watch() -> Iterator[Watch]:
    if not WATCH:
        WATCH.append(Watch())
    found = WATCH[0]
    found.opened, found.is_on = [], True
    yield found
    found.is_on = False


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary.md"
    path.write_text(SECRET)
    return path


def ask(client: TestClient[Any], told: str) -> Iterator[Any]:
    """Everywhere where a client may say a name."""
    segment = quote(told, safe="") or "%20"
    for method, path in (
        ("GET", f"/v1/files/{segment}"),
        ("GET", f"/v1/files/{segment}/content"),
        ("DELETE", f"/v1/files/{segment}"),
        ("GET", f"/v1/models/{segment}"),
        ("GET", f"/v1/vector_stores/{segment}"),
        ("GET", f"/v1/vector_stores/{segment}/files/{segment}/content"),
        ("GET", f"/v1/batches/{segment}"),
        ("GET", f"/v1/responses/{segment}"),
        ("GET", f"/documents/{segment}"),
        ("GET", f"/{segment}"),
    ):
        yield client.request(method, path)
    messages = [{"role": "user", "content": "So?"}]
    for path, body in (
        ("/v1/chat/completions", {"model": told, "messages": messages}),
        ("/v1/chat/completions", {"model": f"cloister/{told}", "messages": messages}),
        ("/v1/search", {"query": "x", "collections": [told]}),
        ("/v1/search", {"query": "x", "filters": {"paths": [told]}}),
        ("/v1/search", {"query": "x", "explain": True, "expect": told}),
        ("/v1/index/rescan", {"collection": told}),
        ("/v1/batches", {"input_file_id": told, "endpoint": "/v1/embeddings", "completion_window": "24h"}),
        ("/v1/vector_stores", {"name": told, "file_ids": [told]}),
        ("/v1/responses", {"input": "x", "previous_response_id": told}),
        ("/api/show", {"model": told}),
        ("/api/delete", {"model": told}),
        ("/v1/embeddings", {"input": "x", "model": told}),
        ("/v1/rerank", {"query": "x", "documents": ["y"], "model": told}),
    ):
        yield client.post(path, json=body)
    yield client.post("/v1/files", files={"file": (told or "x", b"mine")}, data={"purpose": "assistants"})


def test_names_lead_nowhere(tmp_path: Path, canary: Path, watch: Watch) -> None:
    data = tmp_path / "outer" / "data"
    data.mkdir(parents=True)
    told = traversals(canary)
    with serving(data, ScriptedChatModel(), FakeIndex([])) as client:
        for each in told:
            for reply in ask(client, each):
                assert SECRET not in reply.text
                assert "root:" not in reply.text
    assert len(told) > 45
    resolved = [Path(path).resolve() for path in watch.opened if path.startswith("/") and "\0" not in path]
    assert canary.resolve() not in resolved
    assert not [path for path in resolved if path.name in ("passwd", "environ", "zero")]
    written = [path for path in tmp_path.rglob("*") if data not in path.parents and path not in (data, data.parent)]
    assert written == [canary]


def test_the_watch_sees(tmp_path: Path, canary: Path, watch: Watch) -> None:
    canary.read_text()
    assert str(canary) in watch.opened
