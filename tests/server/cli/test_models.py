"""`cloister models`, with a host on this machine that breaks off transfers, sends other files and redirects."""

import hashlib
import json
import resource
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.catalog import resolve_chat
from models.folder import ModelsFolder
from server.cli.main import main

BUILTIN = resolve_chat("reader-v1").path
CONTENT = BUILTIN.read_bytes()
HASH = hashlib.sha256(CONTENT).hexdigest()


class FileHost(ThreadingHTTPServer):
    """Serves `content` under any path, and closes one connection after `breaks_after` bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.content = CONTENT
        self.hash: str | None = HASH
        self.breaks_after: int | None = None
        self.knows_ranges = True
        self.status = 200
        self.redirects = 0
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range header

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect, which some tests do; print other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Requests(BaseHTTPRequestHandler):
    server: FileHost

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        host, range_header = self.server, self.headers.get("Range")
        host.requests.append((self.command, self.path, range_header))
        if host.redirects and not self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/moved/file.gguf")
            self.send_header("X-Linked-Etag", f'"{host.hash}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = _first_byte(range_header) if range_header and host.knows_ranges else 0
        self.send_response(206 if start else host.status)
        self.send_header("Content-Length", str(len(host.content) - start))
        if host.hash and not host.redirects:
            self.send_header("X-Checksum-Sha256", host.hash)
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(host.content)
        if host.breaks_after is not None:
            end, host.breaks_after = start + host.breaks_after, None
        self.wfile.write(host.content[start:end])


def _first_byte(range_header: str) -> int:
    return int(range_header.removeprefix("bytes=").removesuffix("-"))


@pytest.fixture
def host() -> Iterator[FileHost]:
    with FileHost() as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.01,))
        thread.start()
        yield host
        host.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str]:
        code = main(["models", arguments[0], f"--data={tmp_path}", *arguments[1:]])
        output = capsys.readouterr()
        assert not output.err or code
        return code, output.out + output.err

    return run


def files(tmp_path: Path) -> list[str]:
    folder = tmp_path / "models"
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".gguf") if folder.exists() else []


def test_pull_downloads_and_verifies_a_catalog_model(tmp_path: Path, host: FileHost, run: Any) -> None:
    code, output = run("pull", "qwen3-0.6b", f"--from={host.url}")
    assert (code, "cloister serve --model qwen3-0.6b" in output) == (0, True)
    assert host.requests[-1][1] == "/unsloth/Qwen3-0.6B-GGUF/resolve/main/Qwen3-0.6B-Q4_K_M.gguf"
    resolved = resolve_chat("qwen3-0.6b", tmp_path / "models")
    assert resolved.path.read_bytes() == CONTENT
    assert ModelsFolder(tmp_path / "models").entries()[resolved.path.name].sha256 == HASH


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_pull_continues_an_interrupted_transfer(tmp_path: Path, host: FileHost, run: Any, knows_ranges: bool) -> None:
    host.breaks_after, host.knows_ranges = 2_500_000, knows_ranges
    code, output = run("pull", f"{host.url}/own.gguf")
    assert (code, "run the same command again to continue" in output) == (1, True)
    assert files(tmp_path) == []
    code, _ = run("pull", f"{host.url}/own.gguf")
    range_header = host.requests[-1][2]
    assert (code, files(tmp_path)) == (0, ["own.gguf"])
    assert range_header is not None
    assert _first_byte(range_header) > 1_000_000


def test_pull_takes_the_hash_from_the_first_host_and_the_file_from_the_last(
    tmp_path: Path, host: FileHost, run: Any
) -> None:
    host.redirects = 1
    assert run("pull", f"{host.url}/own.gguf")[0] == 0
    assert (files(tmp_path), host.requests[-1][1]) == (["own.gguf"], "/moved/file.gguf")


def test_pull_reports_a_full_disk_and_continues_later(tmp_path: Path, host: FileHost, run: Any) -> None:
    """A limit on file sizes stands for a full disk: the same call fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        code, output = run("pull", f"{host.url}/own.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, output.count("\n"), "File too large" in output) == (1, 1, True), output
    assert files(tmp_path) == []
    assert run("pull", f"{host.url}/own.gguf")[0] == 0
    assert host.requests[-1][2] == "bytes=1500000-"
    assert files(tmp_path) == ["own.gguf"]


def test_pull_downloads_nothing_without_room(
    tmp_path: Path, host: FileHost, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000))
    code, output = run("pull", f"{host.url}/own.gguf")
    assert (code, "there is no room" in output, "3.0 MB are free" in output) == (1, True, True), output
    assert [method for method, _, _ in host.requests] == ["HEAD"]


def test_pull_keeps_no_file_with_another_hash(tmp_path: Path, host: FileHost, run: Any) -> None:
    host.content = CONTENT[:-1] + b"\x00"
    host.hash = HASH if CONTENT[-1:] != b"\x00" else "0" * 64
    code, output = run("pull", f"{host.url}/own.gguf")
    assert (code, "this is another file; nothing was kept" in output) == (1, True)
    assert list((tmp_path / "models").glob("*.part")) == []
    code, output = run("pull", f"{host.url}/own.gguf", f"--sha256={'a' * 64}")
    assert (code, f"not {'a' * 64}" in output, files(tmp_path)) == (1, True, [])


def test_pull_keeps_no_file_that_llama_cpp_cannot_read(tmp_path: Path, host: FileHost, run: Any) -> None:
    host.content = b"GGUF" + bytes(100)
    host.hash = hashlib.sha256(host.content).hexdigest()
    code, output = run("pull", f"{host.url}/own.gguf")
    assert (code, "no model that llama.cpp can read" in output, files(tmp_path)) == (1, True, [])


def test_pull_downloads_nothing_without_a_hash(tmp_path: Path, host: FileHost, run: Any) -> None:
    host.hash = None
    code, output = run("pull", f"{host.url}/own.gguf")
    assert (code, "--sha256 HEX" in output) == (1, True)
    assert [method for method, _, _ in host.requests] == ["HEAD"]
    assert run("pull", f"{host.url}/own.gguf", f"--sha256={HASH}")[0] == 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nobody", "the catalog has no model 'nobody'"),
        ("reader-v1", "built in"),
        ("http://127.0.0.1:1/x.gguf", "run the same command again"),
        ("http://127.0.0.1/x.zip", "must end in .gguf"),
        ("ftp://127.0.0.1/x.gguf", "is not the URL of a file"),
    ],
)
def test_pull_reports_an_impossible_download_in_one_line(run: Any, model: str, message: str) -> None:
    code, output = run("pull", model)
    assert (code, message in output, output.count("\n")) == (1, True, 1), output


def test_pull_reports_a_refusal_of_the_host(host: FileHost, run: Any) -> None:
    host.status = 404
    assert run("pull", f"{host.url}/own.gguf") == (1, f"cloister: {host.url}/own.gguf: there is no such file (404)\n")


def test_import_show_list_and_rm_of_a_file(tmp_path: Path, run: Any) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(CONTENT)
    assert run("import", str(source))[0] == 0
    properties = json.loads(run("show", "own", "--json")[1])
    assert (properties["sha256"], properties["architecture"], properties["quantization"]) == (HASH, "llama", "Q8_0")
    models = {each["name"]: each for each in json.loads(run("list", "--json")[1])}
    assert (models["own"]["state"], models["own"]["size"]) == ("imported", len(CONTENT))
    assert (models["reader-v1"]["state"], models["qwen3-4b"]["state"]) == ("built in", "not here")
    assert run("rm", "own")[0] == 0
    assert (files(tmp_path), source.exists()) == ([], True)
    code, output = run("rm", "own")
    assert (code, "there is no model 'own' here" in output) == (1, True)


def test_verify_finds_an_altered_model(tmp_path: Path, run: Any) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(CONTENT)
    run("import", str(source))
    (tmp_path / "models" / "mine.gguf").write_bytes(CONTENT)
    assert run("verify") == (
        0,
        "ok       reader-v1.gguf\nok       own.gguf\n"
        "unknown  mine.gguf: no SHA-256 is recorded; record it: cloister models import FILE\n",
    )
    with (tmp_path / "models" / "own.gguf").open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    code, output = run("verify")
    assert (code, "ALTERED  own.gguf" in output, output.count("ok  ")) == (1, True, 1)
    assert "1 of 2 models are altered" in output


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF", b"GGUF" + b"\xff" * 300])
def test_import_refuses_a_file_that_is_no_model(tmp_path: Path, run: Any, content: bytes) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(content)
    code, output = run("import", str(source))
    assert (code, files(tmp_path), output.count("\n")) == (1, [], 1), output


def test_import_refuses_a_file_with_another_hash(tmp_path: Path, run: Any) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(CONTENT)
    code, output = run("import", str(source), f"--sha256={'b' * 64}")
    assert (code, "nothing was kept" in output, files(tmp_path)) == (1, True, [])


def test_rm_refuses_a_built_in_model(run: Any) -> None:
    code, output = run("rm", "reader-v1")
    assert (code, "only models that were imported" in output) == (1, True)
    assert BUILTIN.exists()
