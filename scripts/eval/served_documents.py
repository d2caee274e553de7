"""A real `cloister serve` over given documents, for evaluations of its answers."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "e2e"))

from real_server import Server, serving, wait_until


@contextlib.contextmanager
def serve_documents(texts: Sequence[str], model: str, indexing_timeout_s: float) -> Iterator[Server]:
    """Serve Markdown texts, named by their numbers (`0.md`), and yield the server once all are indexed."""
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder) / "docs"
        docs.mkdir()
        for number, text in enumerate(texts):
            (docs / f"{number}.md").write_text(text)
        with serving(Path(folder), docs, f"--model={model}") as server:
            wait_until(lambda: server.status()["documents"] == len(texts), indexing_timeout_s, "the whole index")
            yield server
