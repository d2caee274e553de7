"""Data sets in BEIR's layout: corpus.jsonl, queries.jsonl and qrels/test.tsv in a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec


class Document(NamedTuple):
    id: str
    title: str
    text: str

    @property
    def markdown(self) -> str:
        """The document with its title as the only heading; lines that would be headings are indented."""
        lines = (f" {line}" if line.startswith("#") else line for line in self.text.splitlines())
        return f"# {self.title or 'Untitled'}\n\n" + "\n".join(
            line for line in lines if set(line) - {"=", "-"} or not line
        )


class Dataset(NamedTuple):
    documents: list[Document]
    queries: dict[str, str]  # texts by id; only those with a relevant document
    relevant: dict[str, dict[str, int]]  # grades of documents by query and document


def read_dataset(folder: Path) -> Dataset:
    def rows(name: str) -> Iterator[dict[str, str]]:
        with (folder / name).open() as lines:
            yield from (msgspec.json.decode(line) for line in lines)

    relevant: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, {})[document] = int(grade)
    documents = [Document(row["_id"], row.get("title", ""), row["text"]) for row in rows("corpus.jsonl")]
    return Dataset(
        documents, {row["_id"]: row["text"] for row in rows("queries.jsonl") if row["_id"] in relevant}, relevant
    )
