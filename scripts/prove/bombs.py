#!/usr/bin/env python3
"""Measure what hostile files cost the process that has them read, with the limits of production.

    .venv/bin/python scripts/prove/bombs.py

For every file it prints the outcome, seconds, the growth of this process in MiB (its peak, not the child's), and the
longest pause of another thread of this process. The exit status is 1 when a file costs more than 50 MiB or 1 s.
"""

import io
import os
import resource
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable

from index.errors import UnreadableDocument
from index.reading.sandbox import ReaderSandbox, open_sandbox

_MAX_MIB, _MAX_DELAY_S = 50, 1.0


def zip_bomb(total: int, name: str = "word/document.xml") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as part:
        for _ in range(total >> 20):
            part.write(b" " * (1 << 20))
    return file.getvalue()


def lying_zip() -> bytes:
    """Return an archive whose directory states a size far too small."""
    content = bytearray(zip_bomb(600 << 20, "xl/workbook.xml"))
    directory = content.rindex(b"PK\1\2")
    content[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")
    return bytes(content)


def entities(depth: int = 10) -> bytes:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, depth))
    return f'<!DOCTYPE a [<!ENTITY l0 "lol">{laughs}]><a>&l{depth - 1};</a>'.encode()


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def pdf(*objects: bytes) -> bytes:
    """Return a PDF of these objects, numbered from 1; the first is the catalogue."""
    out, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    return (
        bytes(out) + head + b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    )


def pdf_page(content: bytes, filters: bytes) -> bytes:
    return pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R"
        b"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>",
        b"<</Length %d/Filter[%s]>>\nstream\n%s\nendstream" % (len(content), filters, content),
    )


def nested_flate() -> bytes:
    content = zlib.compress(b" " * (1 << 30), 9)
    return pdf_page(zlib.compress(zlib.compress(content, 9), 9), b"/FlateDecode/FlateDecode/FlateDecode")


def much_text() -> bytes:
    strings = b"BT /F 8 Tf 10 10 Td (words and words) Tj ET\n" * 2_000_000
    return pdf_page(zlib.compress(strings, 9), b"/FlateDecode")


def page_loop() -> bytes:
    return pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2000000000>>")


def many_objects() -> bytes:
    pages = b" ".join(b"%d 0 R" % number for number in range(3, 100_003))
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"
    return pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[%s]/Count 100000>>" % pages, *[page] * 100_000)


_BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "10 GiB in a DOCX": ("a.docx", lambda: zip_bomb(10 << 30)),
    "DOCX just below the gate": ("a.docx", lambda: zip_bomb(16 << 20)),
    "XLSX whose directory lies": ("a.xlsx", lying_zip),
    "billion laughs in a DOCX": ("a.docx", lambda: zipped("[Content_Types].xml", entities())),
    "billion laughs in an ODS": ("a.ods", lambda: zipped("content.xml", entities())),
    "billion laughs in an EPUB": ("a.epub", lambda: zipped("META-INF/container.xml", entities())),
    "PDF, a GiB deflated three times": ("a.pdf", nested_flate),
    "PDF, two million strings": ("a.pdf", much_text),
    "PDF, pages in a circle": ("a.pdf", page_loop),
    "PDF, 100,000 pages": ("a.pdf", many_objects),
    "HTML, a million elements deep": ("a.html", lambda: b"<div>" * 1_000_000),
    "HTML, nested tables": ("a.html", lambda: b"<table><tr><td>" * 100_000),
    "JSON, ten million deep": ("a.json", lambda: b"[" * 10_000_000),
    "notebook, ten million deep": ("a.ipynb", lambda: b"[" * 10_000_000),
    "Markdown, open brackets": ("a.md", lambda: b"a [" * 3_000_000),
    "Markdown, quotes": ("a.md", lambda: b">" * 5_000_000),
    "Markdown, emphasis": ("a.md", lambda: b"*a_" * 3_000_000),
    "CSV, one quote": ("a.csv", lambda: b'"' + b"a,\n" * 6_000_000),
    "code, open brackets": ("a.py", lambda: b"(" * 10_000_000),
    "mail, parts in parts": ("a.eml", lambda: b"Content-Type: multipart/mixed; boundary=a\n\n--a\n" * 200_000),
    "text, one line": ("a.txt", lambda: b"a" * 19_000_000),
}


class _Ticks:
    """Measures the longest pause of a thread that wants to run every five milliseconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.005):
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now

    def end(self) -> float:
        self._stop.set()
        return self.longest


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _read(sandbox: ReaderSandbox, path: str, content: bytes) -> str:
    try:
        parsed = sandbox.read(path, content)
    except UnreadableDocument as error:
        return error.reason
    return f"read: {len(parsed.text):,} characters, {len(parsed.blocks):,} blocks"


def _measure(path: str, make: Callable[[], bytes]) -> tuple[str, int, float, float, float]:
    """Return outcome, size, seconds, MiB and delay. Called in a process of its own, so that the peak is this file's."""
    content = make()
    with open_sandbox() as sandbox:
        sandbox.read("a.txt", b"first")
        before, began, ticks = _peak_mib(), time.monotonic(), _Ticks()
        outcome = _read(sandbox, path, content)
        return outcome, len(content), time.monotonic() - began, _peak_mib() - before, ticks.end()


def main() -> int:
    is_good = True
    for name, (path, make) in _BOMBS.items():
        result, child_end = os.pipe()
        if (pid := os.fork()) == 0:
            outcome, size, seconds, mib, delay = _measure(path, make)
            is_within = mib <= _MAX_MIB and delay <= _MAX_DELAY_S
            line = f"{name:34} {size / 1e6:7.1f} MB {seconds:6.1f} s {mib:+6.1f} MiB {delay:5.2f} s  {outcome}"
            print(line if is_within else f"{line}  TOO MUCH", flush=True)
            os.write(child_end, b"1" if is_within else b"0")
            os._exit(0)
        os.close(child_end)
        os.waitpid(pid, 0)
        is_good &= os.read(result, 1) == b"1"
        os.close(result)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
