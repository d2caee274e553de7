"""`cloister models`, against a host of files on this machine that breaks off, lies and redirects."""

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
    """Serves `content` under any path; `breaks_after` bytes it hangs up, once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.content = CONTENT
        self.hash: str | None = HASH
        self.breaks_after: int | None = None
        self.knows_ranges = True
        self.status = 200
        self.redirects = 0
        self.asked: list[tuple[str, str, str | None]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests; what else goes wrong here is told."""
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
        host, told = self.server, self.headers.get("Range")
        host.asked.append((self.command, self.path, told))
        if host.redirects and not self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/moved/file.gguf")
            self.send_header("X-Linked-Etag", f'"{host.hash}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(told.removeprefix("bytes=").removesuffix("-")) if told and host.knows_ranges else 0
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
        said = capsys.readouterr()
        assert not said.err or code
        return code, said.out + said.err

    return run


def files(tmp_path: Path) -> list[str]:
    folder = tmp_path / "models"
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".gguf") if folder.exists() else []


def test_a_model_is_fetched_verified_and_used_by_its_name(tmp_path: Path, host: FileHost, run: Any) -> None:
    code, said = run("pull", "qwen3-0.6b", f"--from={host.url}")
    assert (code, "cloister serve --model qwen3-0.6b" in said) == (0, True)
    assert host.asked[-1][1] == "/unsloth/Qwen3-0.6B-GGUF/resolve/main/Qwen3-0.6B-Q4_K_M.gguf"
    resolved = resolve_chat("qwen3-0.6b", tmp_path / "models")
    assert resolved.path.read_bytes() == CONTENT
    assert ModelsFolder(tmp_path / "models").entries()[resolved.path.name].sha256 == HASH


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_transfer_that_breaks_off_goes_on(tmp_path: Path, host: FileHost, run: Any, knows_ranges: bool) -> None:
    host.breaks_after, host.knows_ranges = 2_500_000, knows_ranges
    code, said = run("pull", f"{host.url}/own.gguf")
    assert (code, "run the same command again to go on" in said) == (1, True)
    assert files(tmp_path) == []
    code, _ = run("pull", f"{host.url}/own.gguf")
    asked = host.asked[-1][2]
    assert (code, files(tmp_path)) == (0, ["own.gguf"])
    assert asked is not None
    assert int(asked.removeprefix("bytes=").removesuffix("-")) > 1_000_000


def test_a_hash_is_told_by_the_first_host_and_the_file_by_the_last(tmp_path: Path, host: FileHost, run: Any) -> None:
    host.redirects = 1
    assert run("pull", f"{host.url}/own.gguf")[0] == 0
    assert (files(tmp_path), host.asked[-1][1]) == (["own.gguf"], "/moved/file.gguf")


def test_a_disk_that_fills_up_is_said_and_the_transfer_goes_on_afterwards(
    tmp_path: Path, host: FileHost, run: Any
) -> None:
    """A limit on a file's size stands for the disk's end: the same call fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        code, said = run("pull", f"{host.url}/own.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, said.count("\n"), "File too large" in said) == (1, 1, True), said
    assert files(tmp_path) == []
    assert run("pull", f"{host.url}/own.gguf")[0] == 0
    assert host.asked[-1][2] == "bytes=1500000-"
    assert files(tmp_path) == ["own.gguf"]


def test_what_has_no_room_is_not_begun(
    tmp_path: Path, host: FileHost, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000))
    code, said = run("pull", f"{host.url}/own.gguf")
    assert (code, "there is no room" in said, "3.0 MB are free" in said) == (1, True, True), said
    assert [method for method, _, _ in host.asked] == ["HEAD"]


def test_another_content_is_not_kept(tmp_path: Path, host: FileHost, run: Any) -> None:
    host.content = CONTENT[:-1] + b"\x00"
    host.hash = HASH if CONTENT[-1:] != b"\x00" else "0" * 64
    code, said = run("pull", f"{host.url}/own.gguf")
    assert (code, "this is another file; nothing was kept" in said) == (1, True)
    assert list((tmp_path / "models").glob("*.part")) == []
    code, said = run("pull", f"{host.url}/own.gguf", f"--sha256={'a' * 64}")
    assert (code, f"not {'a' * 64}" in said, files(tmp_path)) == (1, True, [])


def test_what_llama_cpp_cannot_read_is_not_kept(tmp_path: Path, host: FileHost, run: Any) -> None:
    host.content = b"GGUF" + bytes(100)
    host.hash = hashlib.sha256(host.content).hexdigest()
    code, said = run("pull", f"{host.url}/own.gguf")
    assert (code, "no model that llama.cpp can read" in said, files(tmp_path)) == (1, True, [])


def test_without_a_hash_nothing_is_fetched(tmp_path: Path, host: FileHost, run: Any) -> None:
    host.hash = None
    code, said = run("pull", f"{host.url}/own.gguf")
    assert (code, "--sha256 HEX" in said) == (1, True)
    assert [method for method, _, _ in host.asked] == ["HEAD"]
    assert run("pull", f"{host.url}/own.gguf", f"--sha256={HASH}")[0] == 0


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("nobody", "the catalog has no model 'nobody'"),
        ("reader-v1", "built in"),
        ("http://127.0.0.1:1/x.gguf", "run the same command again"),
        ("http://127.0.0.1/x.zip", "must end in .gguf"),
        ("ftp://127.0.0.1/x.gguf", "no address of a file"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(run: Any, model: str, says: str) -> None:
    code, said = run("pull", model)
    assert (code, says in said, said.count("\n")) == (1, True, 1), said


def test_a_host_that_refuses_is_said(host: FileHost, run: Any) -> None:
    host.status = 404
    assert run("pull", f"{host.url}/own.gguf") == (1, f"cloister: {host.url}/own.gguf: there is no such file (404)\n")


def test_a_file_is_imported_shown_listed_and_removed(tmp_path: Path, run: Any) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(CONTENT)
    assert run("import", str(source))[0] == 0
    shown = json.loads(run("show", "own", "--json")[1])
    assert (shown["sha256"], shown["architecture"], shown["quantization"]) == (HASH, "llama", "Q8_0")
    listed = {each["name"]: each for each in json.loads(run("list", "--json")[1])}
    assert (listed["own"]["state"], listed["own"]["size"]) == ("imported", len(CONTENT))
    assert (listed["reader-v1"]["state"], listed["qwen3-4b"]["state"]) == ("built in", "not here")
    assert run("rm", "own")[0] == 0
    assert (files(tmp_path), source.exists()) == ([], True)
    code, said = run("rm", "own")
    assert (code, "there is no model 'own' here" in said) == (1, True)


def test_models_are_compared_with_what_they_were(tmp_path: Path, run: Any) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(CONTENT)
    run("import", str(source))
    (tmp_path / "models" / "mine.gguf").write_bytes(CONTENT)
    assert run("verify") == (
        0,
        "sound    reader-v1.gguf\nsound    own.gguf\n"
        "unknown  mine.gguf: put there by hand; import it to have it compared\n",
    )
    with (tmp_path / "models" / "own.gguf").open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    code, said = run("verify")
    assert (code, "ALTERED  own.gguf" in said, said.count("sound")) == (1, True, 1)
    assert "1 of 2 models are not what they were" in said


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF", b"GGUF" + b"\xff" * 300])
def test_what_is_no_model_is_not_imported(tmp_path: Path, run: Any, content: bytes) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(content)
    code, said = run("import", str(source))
    assert (code, files(tmp_path), said.count("\n")) == (1, [], 1), said


def test_an_import_of_another_content_is_refused(tmp_path: Path, run: Any) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(CONTENT)
    code, said = run("import", str(source), f"--sha256={'b' * 64}")
    assert (code, "nothing was kept" in said, files(tmp_path)) == (1, True, [])


def test_built_in_models_are_not_removed(run: Any) -> None:
    code, said = run("rm", "reader-v1")
    assert (code, "only models that were imported" in said) == (1, True)
    assert BUILTIN.exists()
