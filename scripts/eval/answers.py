"""Measure the answers of the built-in models on a data set in BEIR's layout: citations, refusals, markers.

    .venv/bin/python scripts/eval/answers.py FOLDER --off-topic OTHER_FOLDER [--questions 100] [--model NAME|FILE]

A real `cloister serve` indexes FOLDER's documents. FOLDER's questions, and OTHER_FOLDER's, which these documents do not
answer, are sent one by one over HTTP, each for a whole answer and for a stream. Reported: how many markers lack an
annotation and thus a source (wrong citation numbers); how many cited documents are relevant by FOLDER's judgements
(precision), and for how many questions a relevant one is cited (recall); how many answerable questions are refused, and
how many of the others are. The exit status is 1 when a citation number was wrong.
"""

import argparse
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from beir import Dataset, read_dataset
from served_documents import serve_documents

from server.rag.prompts import NO_ANSWER

_MARKER = re.compile(r"\[(\d+)\]")


class AnswerCounts:
    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.counts = Counter[str]()

    def add(self, message: dict[str, Any], relevant: dict[str, int] | None) -> None:
        """Count one answer. `relevant` None: the documents do not answer the question."""
        text, annotations = message["content"], message.get("annotations", [])
        citations = [each["url_citation"] for each in annotations]
        spans = {(c["start_index"], c["end_index"]) for c in citations}
        self.counts["markers"] += len(markers := list(_MARKER.finditer(text)))
        self.counts["wrong citation numbers"] += sum(marker.span() not in spans for marker in markers)
        is_refusal = not citations or NO_ANSWER in text
        if relevant is None:
            self.counts["off topic"] += 1
            self.counts["off topic, refused"] += is_refusal
            return
        documents = [self._dataset.documents[int(Path(c["path"]).stem)].id for c in citations]
        self.counts["answerable"] += 1
        self.counts["answerable, refused"] += is_refusal
        self.counts["citations"] += len(documents)
        self.counts["citations of relevant documents"] += sum(id in relevant for id in documents)
        self.counts["answers that cite a relevant document"] += any(id in relevant for id in documents)

    def report(self) -> None:
        c = self.counts

        def share(part: str, whole: str) -> str:
            return f"{c[part]} of {c[whole]}, {c[part] / c[whole]:.1%}" if c[whole] else "no questions"

        print(f"  wrong citation numbers: {share('wrong citation numbers', 'markers')}")
        print(f"  citation precision: {share('citations of relevant documents', 'citations')}")
        print(f"  citation recall: {share('answers that cite a relevant document', 'answerable')}")
        print(f"  answerable, refused: {share('answerable, refused', 'answerable')}")
        print(f"  off topic, refused: {share('off topic, refused', 'off topic')}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--off-topic", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=100, help="of each folder, at most")
    parser.add_argument("--model", default="reader-v1")
    options = parser.parse_args()
    dataset, other = read_dataset(options.folder), read_dataset(options.off_topic)
    counts, started = AnswerCounts(dataset), time.perf_counter()
    texts = [document.markdown for document in dataset.documents]
    with serve_documents(texts, options.model, 1800) as server, server.client() as http:
        for answer in (_answer, _streamed_answer):
            for id, question in list(dataset.queries.items())[: options.questions]:
                counts.add(answer(http, question), dataset.relevant[id])
            for question in list(other.queries.values())[: options.questions]:
                counts.add(answer(http, question), None)
    print(f"{options.folder.name} by {options.model}, {time.perf_counter() - started:.0f} s")
    counts.report()
    return 1 if counts.counts["wrong citation numbers"] else 0


def _body(question: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "max_tokens": 200, **fields}


def _answer(http: httpx.Client, question: str) -> dict[str, Any]:
    response = http.post("/v1/chat/completions", json=_body(question))
    response.raise_for_status()
    message: dict[str, Any] = response.json()["choices"][0]["message"]
    return message


def _streamed_answer(http: httpx.Client, question: str) -> dict[str, Any]:
    """Return the message that a client assembles from the stream."""
    message: dict[str, Any] = {"content": "", "annotations": []}
    with http.stream("POST", "/v1/chat/completions", json=_body(question, stream=True)) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    message["content"] += choice["delta"].get("content") or ""
                    message["annotations"] += choice["delta"].get("annotations", [])
    return message


if __name__ == "__main__":
    sys.exit(main())
