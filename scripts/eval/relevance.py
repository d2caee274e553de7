"""Calibrate the relevance floor: measure the share of answerable and of unanswerable questions that it refuses.

    .venv/bin/python scripts/eval/relevance.py FOLDER FOLDER … [--manual tests/eval] [--embedder NAME|FOLDER]

The corpora are data sets in BEIR's layout, cut into chunks as usual, and the manual in `tests/eval` with the first and
the last turns of its conversations as questions, and the lines of `offtopic.txt` also as last turns. Answerable: a
corpus's own questions. Unanswerable: those of the other corpora and of `offtopic.txt`. Nearly answerable: its own, with
the passages of every relevant document removed; the remaining ones are about the same subject and may even answer.
For each measure the script prints the share of unanswerable questions refused at the highest floor that refuses at most
5 % of the answerable ones, first with a floor for each corpus, then with one floor for all.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from beir import Dataset, read_dataset
from followups import Conversation
from local_search import QueryEmbedderInProcess, index_folder, open_named_embedder

from index.search.retriever import Retriever
from index.types import Passage, Query
from models.catalog import resolve_embedding
from models.encoder.embedder import Embedder
from models.llm.chat.messages import ChatMessage
from server.rag.followups import search_queries
from server.rag.relevance import FLOOR, relevance

_MAX_FALSE_REFUSALS = 0.05  # of answerable questions that may be refused
_TOP_K = 4
_TOP_K_WITHOUT_RELEVANT = 30

QuestionQueries = list[Query]


class RankedQuestions(NamedTuple):
    """The passages of each question's search."""

    answerable: list[list[Passage]]
    nearly: list[list[Passage]]
    unanswerable: list[list[Passage]]


def relevance_score(passage: Passage) -> float:
    return relevance(passage) or 0.0


MEASURES: Mapping[str, Callable[[Passage], float]] = {
    "cosine": lambda p: p.similarity or 0.0,
    "z-score": lambda p: max(e.z_score or 0.0 for e in p.evidence),
    "words": lambda p: max(e.coverage for e in p.evidence),
    "cosine and words": lambda p: (p.similarity or 0.0) + 0.3 * max(e.coverage for e in p.evidence),
    "z-score and words": relevance_score,
}


def best(measure: Callable[[Passage], float], results: Sequence[Sequence[Passage]]) -> np.ndarray:
    """Return for each question the measure of its best passage."""
    return np.array([max((measure(p) for p in passages), default=-1.0) for passages in results])


async def search(
    retriever: Retriever, embedder: Embedder, questions: Sequence[QuestionQueries], k: int
) -> list[list[Passage]]:
    return [await retriever.search(queries, QueryEmbedderInProcess(embedder), k) for queries in questions]


def search_dataset(
    dataset: Dataset, embedder: Embedder, unanswerable: Sequence[QuestionQueries], chunk_tokens: int
) -> RankedQuestions:
    ids = [document.id for document in dataset.documents]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        for number, document in enumerate(dataset.documents):
            (root / f"{number}.md").write_text(document.markdown)
        index_folder(root, embedder, Path(folder) / "data", chunk_tokens)
        with Retriever(Path(folder) / "data", embedder.fingerprint, embedder.dimension) as retriever:
            questions = [[Query(text)] for text in dataset.queries.values()]
            own = asyncio.run(search(retriever, embedder, questions, _TOP_K))
            deep = asyncio.run(search(retriever, embedder, questions, _TOP_K_WITHOUT_RELEVANT))
            others = asyncio.run(search(retriever, embedder, unanswerable, _TOP_K))
    nearly = [
        [p for p in passages if ids[int(Path(p.path).stem)] not in dataset.relevant[id]][:_TOP_K]
        for id, passages in zip(dataset.queries, deep, strict=True)
    ]
    return RankedQuestions(own, nearly, others)


def search_manual(
    folder: Path, embedder: Embedder, unanswerable: Sequence[QuestionQueries], chunk_tokens: int
) -> RankedQuestions:
    lines = (folder / "followups.jsonl").read_text().splitlines()
    conversations = [msgspec.json.decode(line, type=Conversation).messages for line in lines]
    questions = [search_queries(messages[:count]) for messages in conversations for count in (1, len(messages))]
    switched = [
        search_queries([*messages[:-1], ChatMessage.of_text("user", queries[0].text)])
        for messages, queries in zip(conversations, itertools.cycle(unanswerable))
    ]
    with tempfile.TemporaryDirectory() as data:
        index_folder(folder / "manual", embedder, Path(data), chunk_tokens)
        with Retriever(Path(data), embedder.fingerprint, embedder.dimension) as retriever:
            own = asyncio.run(search(retriever, embedder, questions, _TOP_K))
            others = asyncio.run(search(retriever, embedder, [*unanswerable, *switched], _TOP_K))
            return RankedQuestions(own, [], others)


def report(corpora: Mapping[str, RankedQuestions]) -> None:
    for name, measure in MEASURES.items():
        scores = {corpus: best(measure, results.unanswerable) for corpus, results in corpora.items()}
        floors = {
            corpus: float(np.quantile(best(measure, results.answerable), _MAX_FALSE_REFUSALS))
            for corpus, results in corpora.items()
        }
        lowest = min(floors.values())
        separate = [f"{corpus} {refused_share(scores[corpus], floor)}" for corpus, floor in floors.items()]
        common = [f"{corpus} {refused_share(scores[corpus], lowest)}" for corpus in corpora]
        print(f"{name:20} own floors: {', '.join(separate)};  one floor ({lowest:.2f}): {', '.join(common)}")
    print(f"with the server's floor, {FLOOR}:")
    for corpus, results in corpora.items():
        answerable, nearly, unanswerable = (refused_share(best(relevance_score, part), FLOOR) for part in results)
        print(f"  {corpus}: refused of answerable {answerable}, nearly {nearly}, unanswerable {unanswerable}")


def refused_share(scores: np.ndarray, floor: float) -> str:
    return f"{np.mean(scores < floor):.1%}" if len(scores) else "–"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--manual", type=Path, default=Path(__file__).parents[2] / "tests" / "eval")
    parser.add_argument("--embedder", default="all-MiniLM-L6-v2")
    options = parser.parse_args()
    embedder, chunk_tokens = open_named_embedder(options.embedder, 0), resolve_embedding(options.embedder).chunk_tokens
    off_topic = [[Query(line)] for line in (options.manual / "offtopic.txt").read_text().splitlines()]
    datasets = {folder.name: read_dataset(folder) for folder in options.folders}
    questions = {name: [[Query(text)] for text in dataset.queries.values()] for name, dataset in datasets.items()}
    results = {}
    for name, dataset in datasets.items():
        others = [query for other, queries in questions.items() if other != name for query in queries]
        results[name] = search_dataset(dataset, embedder, others + off_topic, chunk_tokens)
        results[f"{name}, off-topic"] = results[name]._replace(unanswerable=results[name].unanswerable[len(others) :])
    results["manual"] = search_manual(options.manual, embedder, off_topic, chunk_tokens)
    report(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
