"""The sandbox: the cost of hostile and broken files, and the resources that a reader cannot reach."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.errors import UnreadableDocument
from index.reading import readers
from index.reading.confinement import ReadingLimits
from index.reading.sandbox import ReaderSandbox, open_sandbox
from index.types import ParsedDocument
from tests.index.conftest import Workspace, unhurried
from tests.index.samples import TRAVEL, docx_of, epub_of, html_of, ipynb_of, pdf_of, pptx_of, xlsx_of, zip_parts

_LIMITS = ReadingLimits(memory_bytes=512 << 20, cpu_s=2, wall_s=30, result_bytes=1 << 20)
_SHORT_LIMITS = ReadingLimits(wall_s=2)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ReaderSandbox]:
    with open_sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.md", b"# A\n\n| b |\n|---|\n| c |"),
        ("a.pdf", pdf_of([TRAVEL, []])),
        ("a.docx", docx_of(TRAVEL)),
        ("a.pptx", pptx_of(TRAVEL)),
        ("a.xlsx", xlsx_of({"A": [("b", "c"), (1, 2)]})),
        ("a.html", html_of(TRAVEL)),
        ("a.epub", epub_of(TRAVEL)),
        ("a.ipynb", ipynb_of(TRAVEL)),
        ("a.eml", b"Subject: a\nContent-Type: text/plain; charset=iso-2022-jp\n\nb"),
        ("a.csv", b"a,b\n1,2\n"),
        ("a.json", b'{"a": 1}'),
        ("a.rs", b"fn a() {}"),
        ("a.txt", "従業員は二等車の切符を購入し、すべての領収書を保管しなければなりません。".encode("cp932")),
        ("a.txt", b""),
    ],
)
def test_the_sandbox_reads_every_format_as_this_process_does(sandbox: ReaderSandbox, path: str, content: bytes) -> None:
    assert sandbox.read(path, content) == readers.read(path, content)


def test_the_sandbox_returns_the_reader_s_reason(sandbox: ReaderSandbox) -> None:
    with pytest.raises(UnreadableDocument, match="none of its pages has a text layer"):
        sandbox.read("a.pdf", pdf_of([[]]))


_PARTS = [docx_of(TRAVEL), xlsx_of({"A": [("b", "c"), (1, 2)]}), pdf_of([TRAVEL]), epub_of(TRAVEL)]


@settings(unhurried, max_examples=40)
@given(kind=st.sampled_from(range(4)), at=st.floats(0, 1), junk=st.binary(min_size=1, max_size=8), is_cut=st.booleans())
def test_damaged_files_are_read_or_refused_with_a_reason(
    sandbox: ReaderSandbox, kind: int, at: float, junk: bytes, is_cut: bool
) -> None:
    whole = _PARTS[kind]
    place = int(at * len(whole))
    content = whole[:place] + junk + (b"" if is_cut else whole[place + len(junk) :])
    try:
        parsed = sandbox.read(("a.docx", "a.xlsx", "a.pdf", "a.epub")[kind], content)
    except UnreadableDocument as error:
        assert error.reason
        assert "\n" not in error.reason
    else:
        assert isinstance(parsed, ParsedDocument)


def _replace_text_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Make the reader process run `body` in the text reader, for files that begin with "bad"."""
    package = Path(readers.__file__).parents[2]
    folder = tmp_path / "index" / "reading"
    folder.mkdir(parents=True)
    for file in [*package.iterdir(), *(package / "reading").iterdir()]:
        if file.name != "reading":
            (tmp_path / file.relative_to(package.parent)).symlink_to(file)
    (folder / "process.py").unlink()
    source = (package / "reading" / "process.py").read_text()
    misbehave = (
        "import ctypes, os, signal, socket, time\n\ndef misbehave(content):\n"
        + "".join(f"    {line}\n" for line in body.splitlines())
        + "\n\n_read = readers.read\n\n"
        + "def read(path, content):\n"
        + "    return misbehave(content) if content.startswith(b'bad') else _read(path, content)\n"
        + "\n\nreaders.read = read\n\n\n"
    )
    main = 'if __name__ == "__main__":'
    (folder / "process.py").write_text(source.replace(main, misbehave + main))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SECRET", "canary")


_MISBEHAVIOURS = [
    ("ctypes.string_at(0)", r"crashed on it \(SIGSEGV\)"),
    ("while True: pass", "2 s of processor time"),
    ("time.sleep(60)", "longer than 2 s"),
    ("held = []\nwhile True: held.append(bytearray(1 << 22))", "more memory than it may"),
    ("return ParsedDocument('a' * (2 << 20), [], None)", "more text than is read"),
    ("return ParsedDocument('abc', [__import__('index.types').types.Block(0, 9, ())], None)", "nonsense"),
    ("os._exit(3)", "broke off"),
    ("raise KeyError('what')", "could not be read .KeyError"),
    ("def deeper(): deeper()\ndeeper()", "nested too deeply"),
]


@pytest.mark.parametrize(("body", "reason"), _MISBEHAVIOURS, ids=[body[:20] for body, _ in _MISBEHAVIOURS])
def test_a_misbehaving_reader_fails_one_file_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, reason: str
) -> None:
    _replace_text_reader(monkeypatch, tmp_path, body)
    with open_sandbox(_SHORT_LIMITS if "sleep" in body else _LIMITS) as sandbox:
        assert sandbox.read("a.txt", b"good").text == "good"
        pid = sandbox.pid
        with pytest.raises(UnreadableDocument, match=reason):
            sandbox.read("a.txt", b"bad")
        assert sandbox.read("a.txt", b"good").text == "good"
        assert sandbox.pid == pid


_ATTEMPTS = {
    "open": "open('/etc/passwd')",
    "write": "open('/dev/shm/canary', 'w').write('x')",
    "socket": "socket.socket()",
    "fork a shell": "os.execv('/bin/sh', ['sh', '-c', 'true'])",
    "remove": "os.unlink(PATH)",
    "signal its parent": "os.kill(os.getppid(), signal.SIGKILL)",
    "secret": "os.environ['SECRET']",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the filter of system calls is Linux's")
@pytest.mark.parametrize("attempt", _ATTEMPTS)
def test_a_reader_child_reaches_no_file_process_or_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, attempt: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    _replace_text_reader(monkeypatch, tmp_path, _ATTEMPTS[attempt].replace("PATH", repr(str(victim))))
    with open_sandbox(_LIMITS) as sandbox:
        with pytest.raises(UnreadableDocument, match=r"PermissionError|OSError|KeyError"):
            sandbox.read("a.txt", b"bad")
        assert sandbox.read("a.txt", b"good").text == "good"
    assert victim.exists()


def test_a_reader_process_that_is_killed_is_started_again(sandbox: ReaderSandbox) -> None:
    sandbox.read("a.txt", b"one")
    before = sandbox.pid
    assert before is not None
    os.killpg(before, signal.SIGKILL)
    assert sandbox.read("a.txt", b"two").text == "two"
    assert sandbox.pid != before


def test_a_file_that_kills_the_reader_process_is_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = ReaderSandbox(ReadingLimits())
    starts: list[float] = []
    start = ReaderSandbox._start

    def start_and_kill(self: ReaderSandbox) -> object:
        process = start(self)
        os.kill(process.pid, signal.SIGKILL)
        starts.append(time.monotonic())
        return process

    monkeypatch.setattr(ReaderSandbox, "_start", start_and_kill)
    with pytest.raises(UnreadableDocument, match="ended twice"):
        sandbox.read("a.txt", b"one")
    sandbox.close()
    assert len(starts) == 2


def test_the_sandbox_leaves_no_process_and_no_descriptor_behind(sandbox: ReaderSandbox) -> None:
    with open_sandbox() as other:
        other.read("a.txt", b"one")
        pid = other.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    sandbox.read("a.txt", b"one")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        sandbox.read("a.rs", b"fn a() {}")
        sandbox.read("a.txt", b"one")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def _nested_zip() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(3):
            archive.writestr(f"{n}.xml", b"\0" * (10 << 20))
    return file.getvalue()


def _entities() -> bytes:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE a [<!ENTITY l0 "lol">{laughs}]><a>&l9;</a>'.encode()


_BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zip": ("a.docx", _nested_zip),
    "entities in a document": ("a.docx", lambda: zip_parts({"[Content_Types].xml": _entities()})),
    "entities in a book": ("a.epub", lambda: zip_parts({"META-INF/container.xml": _entities()})),
    "deep page": ("a.html", lambda: b"<div>" * 50_000 + b"end"),
    "deep JSON": ("a.ipynb", lambda: b"[" * 500_000),
    "quotes": ("a.md", lambda: b">" * 20_000 + b" end"),
    "long line": ("a.md", lambda: b"a [" * 50_000),
    "one row": ("a.csv", lambda: b'"' + b"a," * 500_000),
}


@pytest.mark.parametrize("bomb", _BOMBS)
def test_a_hostile_file_costs_at_most_a_child(bomb: str) -> None:
    path, make = _BOMBS[bomb]
    content = make()
    before = _rss()
    with open_sandbox(_LIMITS) as sandbox:
        sandbox.read("a.txt", b"one")
        began = time.monotonic()
        try:
            sandbox.read(path, content)
        except UnreadableDocument as error:
            assert error.reason
        assert time.monotonic() - began < _LIMITS.wall_s + 3
    assert _rss() - before < 50 << 20


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def test_documents_read_by_older_readers_are_read_again_and_not_embedded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write("a.md", "one")
    workspace.write("b.md", b"\0")
    workspace.sync()
    ids = workspace.chunk_ids()
    monkeypatch.setattr(readers, "VERSION", readers.VERSION + 1)
    workspace.start()
    assert workspace.status().pending == 2
    assert workspace.sync() == 0
    assert workspace.chunk_ids() != ids
    assert list(workspace.failures()) == ["b.md"]


def test_the_indexer_reads_through_a_reader_process(workspace: Workspace) -> None:
    workspace.write("a.pdf", pdf_of([TRAVEL, []]))
    workspace.write("b.pdf", b"%PDF-junk")
    workspace.write("c.md", "three")
    with open_sandbox() as sandbox:
        workspace.read = sandbox.read
        workspace.sync()
    assert list(workspace.failures()) == ["b.pdf"]
    assert workspace.rows("SELECT note FROM documents WHERE path = 'a.pdf'") == [("page 2 has no text layer",)]
    with workspace.retrieving() as search:
        (best, *_) = search("trains in second class")
    assert best.place is not None
    assert best.breadcrumb == ("p. 1", "Travel")


def test_the_reader_process_loads_no_numpy_and_has_one_thread() -> None:
    code = (
        "import sys, index.reading.process; index.reading.process.readers.import_all(); print('numpy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
    with open_sandbox() as sandbox:
        sandbox.read("a.txt", b"one")
        assert len(list(Path(f"/proc/{sandbox.pid}/task").iterdir())) == 1
