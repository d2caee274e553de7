"""The text the built-in model learns from: pages of prose, and questions that people asked about some of them."""

import gzip
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from server.rag.sentences import sentence_starts

_HELD_OUT_PAGES = 97  # every so manieth page is kept for validation
_HELD_OUT_PAPERS = 3  # every third paper is kept for measuring
_SHORTEST_PARAGRAPH = 60  # characters
_WORD = re.compile(r"[^\W\d_][\w.\-]*\w|\d+")
_SUFFIXES = (
    "ations",
    "ation",
    "ings",
    "ing",
    "ions",
    "ion",
    "ies",
    "ied",
    "ers",
    "er",
    "ed",
    "es",
    "ly",
    "s",
    "e",
    "y",
)
STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "to",
        "in",
        "on",
        "for",
        "and",
        "or",
        "but",
        "if",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "with",
        "as",
        "at",
        "by",
        "from",
        "into",
        "not",
        "no",
        "can",
        "may",
        "will",
        "would",
        "should",
        "could",
        "must",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "you",
        "your",
        "we",
        "our",
        "they",
        "their",
        "he",
        "she",
        "i",
        "who",
        "whom",
        "whose",
        "what",
        "which",
        "when",
        "where",
        "why",
        "how",
        "than",
        "then",
        "so",
        "such",
        "also",
        "only",
        "any",
        "all",
        "each",
        "more",
        "most",
        "some",
        "other",
        "there",
        "here",
        "about",
        "over",
        "under",
        "up",
        "down",
        "out",
        "used",
        "use",
        "using",
        "see",
        "set",
        "many",
        "much",
        "question",
    ]
)


class Page(NamedTuple):
    path: str
    paragraphs: Sequence[str]


class Asked(NamedTuple):
    """A person's question and the sentence of `page` that holds its answer."""

    question: str
    page: Page
    paragraph: int
    sentence: tuple[int, int]  # span in the paragraph
    answer: str


class Corpus(NamedTuple):
    pages: Sequence[Page]
    asked: Sequence[Asked]
    held_pages: Sequence[Page]
    held_asked: Sequence[Asked]


def spans(text: str) -> list[tuple[int, int]]:
    """The sentences of a text as the product sees them, without the space around them."""
    bounds = [*sentence_starts(text), len(text)]
    found = []
    for start, end in itertools.pairwise(bounds):
        stripped = text[start:end].strip()
        if _WORD.search(stripped):
            at = text.index(stripped, start)
            found.append((at, at + len(stripped)))
    return found


def words(text: str) -> list[str]:
    """Those that say something, as they are written."""
    return [word for word in _WORD.findall(text) if word.lower() not in STOP]


def stem(word: str) -> str:
    """What inflections of a word share, roughly."""
    word = word.lower()
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def stems(text: str) -> set[str]:
    return {stem(word) for word in words(text)}


class Rarity:
    """How telling a word is: the inverse of the share of pages it stands in, in nats."""

    def __init__(self, pages: Sequence[Page]) -> None:
        counts = Counter(each for page in pages for each in stems(" ".join(page.paragraphs)))
        self._counts, self._total = counts, len(pages)

    def of(self, stemmed: str) -> float:
        return math.log((self._total + 1) / (self._counts[stemmed] + 1)) + 0.1

    def shared(self, question: set[str], sentence: set[str]) -> float:
        """The weight of the question's words that the sentence has."""
        return sum(self.of(each) for each in question & sentence)


def read_corpus(folder: Path) -> Corpus:
    """The pages of `folder`/paragraphs.jsonl.gz and the questions of `folder`/questions/covidqa.json.gz."""
    pages = list(_pages(folder / "paragraphs.jsonl.gz"))
    papers, asked = _papers(folder / "questions" / "covidqa.json.gz")
    held_papers = set(sorted(papers)[::_HELD_OUT_PAPERS])
    held = {papers[each].path for each in held_papers}
    return Corpus(
        [page for i, page in enumerate(pages) if i % _HELD_OUT_PAGES]
        + [paper for id, paper in papers.items() if id not in held_papers],
        [each for each in asked if each.page.path not in held],
        pages[::_HELD_OUT_PAGES],
        [each for each in asked if each.page.path in held],
    )


def _pages(file: Path) -> Iterator[Page]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            page = json.loads(line)
            paragraphs = [" ".join(sentences) for sentences in page["paragraphs"]]
            paragraphs = [each for each in paragraphs if len(each) >= _SHORTEST_PARAGRAPH]
            if len(paragraphs) >= 2:
                yield Page(page["path"], paragraphs)


def _papers(file: Path) -> tuple[dict[str, Page], list[Asked]]:
    with gzip.open(file, "rt", encoding="utf-8") as opened:
        content = json.load(opened)
    papers, offsets = {}, {}
    for id, text in content["documents"].items():
        blocks = [block for block in re.finditer(r"[^\n]+", text) if len(block[0]) >= _SHORTEST_PARAGRAPH]
        papers[id] = Page(f"papers/{id}.txt", [block[0] for block in blocks])
        offsets[id] = [block.start() for block in blocks]
    asked = []
    for each in content["questions"]:
        page, starts, at = papers[each["document_id"]], offsets[each["document_id"]], each["answer_start"]
        at += len(each["answer"]) - len(each["answer"].lstrip())
        index = max((i for i, start in enumerate(starts) if start <= at), default=-1)
        if index < 0 or at - starts[index] >= len(page.paragraphs[index]):
            continue
        inside = at - starts[index]
        sentence = next((s for s in spans(page.paragraphs[index]) if s[0] <= inside < s[1]), None)
        if sentence and sentence[1] - sentence[0] >= 20:
            asked.append(Asked(each["question"].strip(), page, index, sentence, each["answer"].strip()))
    return papers, asked
