"""Measure how fast files are read, in sandboxed processes and in this process.

    .venv/bin/python scripts/bench/readers.py [--files 1000] [--pages 200]

Generated Markdown files of about a kilobyte, and PDFs of text and tables; medians of three rounds.
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

Read = Callable[[str, bytes], ParsedDocument]

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
    """Return the median duration of three calls."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def print_rates(name: str, read: Read, files: list[bytes], pdf: bytes, num_pages: int) -> None:
    page = _pdf(1)
    seconds = _seconds(lambda: [read("a.md", content) for content in files])
    print(f"Markdown files, {name:12} {len(files) / seconds:8.0f} files/s")
    seconds = _seconds(lambda: read("a.pdf", pdf))
    print(f"one PDF, {name:12}        {num_pages / seconds:8.0f} pages/s")
    seconds = _seconds(lambda: [read("a.pdf", page) for _ in range(20)])
    print(f"PDFs of a page, {name:12} {20 / seconds:8.0f} files/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=200)
    arguments = parser.parse_args()
    files = [_markdown(number) for number in range(arguments.files)]
    pdf = _pdf(arguments.pages)
    with open_sandbox() as sandbox:
        started = time.perf_counter()
        sandbox.read("a.md", files[0])
        print(f"start of the sandbox process {time.perf_counter() - started:8.2f} s")
        print_rates("sandboxed", sandbox.read, files, pdf, arguments.pages)
    print_rates("this process", readers.read, files, pdf, arguments.pages)


if __name__ == "__main__":
    main()
