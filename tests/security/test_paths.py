"""No client can name a path: no id, name or file that it sends opens or shows a file outside the data folder."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from litestar.testing import TestClient

from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

SECRET = "the canary sings at midnight"


def traversals(canary: Path) -> list[str]:
    """Return names that try to reach the canary or other files, and some that are no names at all."""
    name, whole = canary.name, str(canary)
    dots = [f"{'../' * depth}{name}" for depth in range(1, 9)] + [f"{'..%2f' * depth}{name}" for depth in range(1, 4)]
    windows = [f"..\\{name}", f"..\\..\\{name}", f"C:\\{name}", f"\\\\server\\{name}", f"//server/{name}"]
    encoded = [
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
    common = ["/etc/passwd", "../../../../etc/passwd", "/proc/self/environ", "/dev/zero", "con", "nul.txt", "."]
    return [
        *dots,
        *windows,
        *encoded,
        *wholes,
        *common,
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


class OpenedFiles:
    """Records the files that are opened while it is on. An audit hook cannot be removed, so there is only one."""

    def __init__(self) -> None:
        self.is_on = False
        self.opened: list[str] = []
        sys.addaudithook(self._record)

    def _record(self, event: str, args: tuple[Any, ...]) -> None:
        if self.is_on and event in ("open", "os.listdir", "os.scandir") and args and isinstance(args[0], (str, bytes)):
            path = args[0] if isinstance(args[0], str) else args[0].decode(errors="replace")
            self.opened.append(path)


RECORDER: list[OpenedFiles] = []


@pytest.fixture
def opened_files() -> Iterator[OpenedFiles]:
    if not RECORDER:
        RECORDER.append(OpenedFiles())
    recorder = RECORDER[0]
    recorder.opened, recorder.is_on = [], True
    yield recorder
    recorder.is_on = False


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary.md"
    path.write_text(SECRET)
    return path


def ask(client: TestClient[Any], name: str) -> Iterator[Any]:
    """Send the name in every place where a client may send one, and yield the replies."""
    segment = quote(name, safe="") or "%20"
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
        ("/v1/chat/completions", {"model": name, "messages": messages}),
        ("/v1/chat/completions", {"model": f"cloister/{name}", "messages": messages}),
        ("/v1/search", {"query": "x", "collections": [name]}),
        ("/v1/search", {"query": "x", "filters": {"paths": [name]}}),
        ("/v1/search", {"query": "x", "explain": True, "expect": name}),
        ("/v1/index/rescan", {"collection": name}),
        ("/v1/batches", {"input_file_id": name, "endpoint": "/v1/embeddings", "completion_window": "24h"}),
        ("/v1/vector_stores", {"name": name, "file_ids": [name]}),
        ("/v1/responses", {"input": "x", "previous_response_id": name}),
        ("/api/show", {"model": name}),
        ("/api/delete", {"model": name}),
        ("/v1/embeddings", {"input": "x", "model": name}),
        ("/v1/rerank", {"query": "x", "documents": ["y"], "model": name}),
    ):
        yield client.post(path, json=body)
    yield client.post("/v1/files", files={"file": (name or "x", b"mine")}, data={"purpose": "assistants"})


def test_no_name_from_a_client_reaches_a_file_outside(tmp_path: Path, canary: Path, opened_files: OpenedFiles) -> None:
    data = tmp_path / "outer" / "data"
    data.mkdir(parents=True)
    names = traversals(canary)
    with serving(data, ScriptedChatModel(), FakeIndex([])) as client:
        for name in names:
            for reply in ask(client, name):
                assert SECRET not in reply.text
                assert "root:" not in reply.text
    assert len(names) > 45
    resolved = [Path(path).resolve() for path in opened_files.opened if path.startswith("/") and "\0" not in path]
    assert canary.resolve() not in resolved
    assert not [path for path in resolved if path.name in ("passwd", "environ", "zero")]
    written = [path for path in tmp_path.rglob("*") if data not in path.parents and path not in (data, data.parent)]
    assert written == [canary]


def test_the_audit_hook_records_an_opened_file(tmp_path: Path, canary: Path, opened_files: OpenedFiles) -> None:
    canary.read_text()
    assert str(canary) in opened_files.opened
