#!/usr/bin/env python3
"""How fast files are read, in throw-away processes and in this one.

    .venv/bin/python scripts/bench/readers.py [--files 1000] [--pages 200]

Made-up Markdown files of about a kilobyte and a PDF of text and tables; medians of three rounds.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table

from index.reading import readers
from index.reading.sandbox import open_sandbox
from index.types import ParsedDocument

_SENTENCE = "Employees book trains in second class and keep the receipts of every meal above forty euros. "


def _markdown(number: int) -> bytes:
    parts = [f"## Section {n}\n\n{_SENTENCE * 2}\n" for n in range(4)]
    return "\n".join([f"# Document {number}\n", *parts, "| City | Hotel |\n|---|---|\n| Bern | 120 |\n"]).encode()


def _pdf(num_pages: int) -> bytes:
    styles, story = getSampleStyleSheet(), []
    for number in range(num_pages):
        story.append(Paragraph(f"Page {number}. " + _SENTENCE * 20, styles["Normal"]))
        story.append(Table([[f"City {row}", str(row), str(2 * row)] for row in range(12)]))
        story.append(PageBreak())
    file = io.BytesIO()
    SimpleDocTemplate(file).build(story)
    return file.getvalue()


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=200)
    arguments = parser.parse_args()
    files = [_markdown(number) for number in range(arguments.files)]
    pdf = _pdf(arguments.pages)
    page = _pdf(1)
    with open_sandbox() as reading:
        began = time.perf_counter()
        reading.read("a.md", files[0])
        print(f"start of the reader process  {time.perf_counter() - began:8.2f} s")
        ways: dict[str, Callable[[str, bytes], ParsedDocument]] = {
            "throw-away": reading.read,
            "this process": readers.read,
        }
        for name, read in ways.items():

            def read_all(read: Callable[[str, bytes], ParsedDocument] = read) -> None:
                for content in files:
                    read("a.md", content)

            print(f"Markdown files, {name:12} {arguments.files / _seconds(read_all):8.0f} files/s")
            spent = _seconds(lambda read=read: read("a.pdf", pdf))
            print(f"one PDF, {name:12}        {arguments.pages / spent:8.0f} pages/s")
            spent = _seconds(lambda read=read: [read("a.pdf", page) for _ in range(20)])
            print(f"PDFs of a page, {name:12} {20 / spent:8.0f} files/s")


if __name__ == "__main__":
    main()
