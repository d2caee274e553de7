"""The training text of the built-in model: pages of prose, and questions that people asked about scientific papers."""

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

_HELD_OUT_PAGE_INTERVAL = 97  # every 97th page is held out for validation
_HELD_OUT_PAPER_INTERVAL = 3  # every third paper is held out for scripts/eval/reader_model.py
_MIN_PARAGRAPH_CHARS = 60
_WORD = re.compile(r"[^\W\d_][\w.\-]*\w|\d+")
_SUFFIXES = (  # longest first
    "ations", "ation", "ings", "ing", "ions", "ion", "ies", "ied", "ers", "er", "ed", "es", "ly", "s", "e", "y",
)  # fmt: skip
STOP_WORDS = frozenset((
    "a", "an", "the", "of", "to", "in", "on", "for", "and", "or", "but", "if", "is", "are", "was", "were", "be",
    "been", "being", "it", "its", "this", "that", "these", "those", "with", "as", "at", "by", "from", "into",
    "not", "no", "can", "may", "will", "would", "should", "could", "must", "do", "does", "did", "has", "have",
    "had", "you", "your", "we", "our", "they", "their", "he", "she", "i", "who", "whom", "whose", "what",
    "which", "when", "where", "why", "how", "than", "then", "so", "such", "also", "only", "any", "all", "each",
    "more", "most", "some", "other", "there", "here", "about", "over", "under", "up", "down", "out", "used",
    "use", "using", "see", "set", "many", "much", "question",
))  # fmt: skip


class Page(NamedTuple):
    path: str
    paragraphs: Sequence[str]


class HumanQuestion(NamedTuple):
    """A question that a person asked, and the sentence of `page` that holds its answer."""

    question: str
    page: Page
    paragraph: int
    sentence: tuple[int, int]  # span in the paragraph
    answer: str


class Corpus(NamedTuple):
    pages: Sequence[Page]
    questions: Sequence[HumanQuestion]
    held_out_pages: Sequence[Page]
    held_out_questions: Sequence[HumanQuestion]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of a text's sentences, cut as the server cuts them, without surrounding whitespace."""
    bounds = [*sentence_starts(text), len(text)]
    spans = []
    for start, end in itertools.pairwise(bounds):
        stripped = text[start:end].strip()
        if _WORD.search(stripped):
            at = text.index(stripped, start)
            spans.append((at, at + len(stripped)))
    return spans


def content_words(text: str) -> list[str]:
    """Return the words that are not stop words, in their original spelling."""
    return [word for word in _WORD.findall(text) if word.lower() not in STOP_WORDS]


def stem(word: str) -> str:
    """Return an approximate stem: the word in lower case without its suffix."""
    word = word.lower()
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def stems(text: str) -> set[str]:
    return {stem(word) for word in content_words(text)}


class IdfWeights:
    """Inverse document frequency of stems over pages, in nats."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self._counts = Counter(each for page in pages for each in stems(" ".join(page.paragraphs)))
        self._num_pages = len(pages)

    def weight(self, stemmed: str) -> float:
        return math.log((self._num_pages + 1) / (self._counts[stemmed] + 1)) + 0.1

    def overlap(self, question: set[str], sentence: set[str]) -> float:
        """Return the total weight of the question's stems that the sentence has too."""
        return sum(self.weight(each) for each in question & sentence)


def read_corpus(folder: Path) -> Corpus:
    """Read the pages of `paragraphs.jsonl.gz` and the questions of `questions/covidqa.json.gz` in `folder`."""
    pages = list(_read_pages(folder / "paragraphs.jsonl.gz"))
    papers, questions = _read_papers(folder / "questions" / "covidqa.json.gz")
    held_out_ids = set(sorted(papers)[::_HELD_OUT_PAPER_INTERVAL])
    held_out_paths = {papers[each].path for each in held_out_ids}
    return Corpus(
        [page for i, page in enumerate(pages) if i % _HELD_OUT_PAGE_INTERVAL]
        + [paper for id, paper in papers.items() if id not in held_out_ids],
        [each for each in questions if each.page.path not in held_out_paths],
        pages[::_HELD_OUT_PAGE_INTERVAL],
        [each for each in questions if each.page.path in held_out_paths],
    )


def _read_pages(file: Path) -> Iterator[Page]:
    """Yield the pages that have at least two paragraphs of sufficient length."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            page = json.loads(line)
            paragraphs = [" ".join(sentences) for sentences in page["paragraphs"]]
            paragraphs = [each for each in paragraphs if len(each) >= _MIN_PARAGRAPH_CHARS]
            if len(paragraphs) >= 2:
                yield Page(page["path"], paragraphs)


def _read_papers(file: Path) -> tuple[dict[str, Page], list[HumanQuestion]]:
    """Return the papers by id, and the questions whose answer stands in a sentence of a sufficiently long paragraph."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        content = json.load(stream)
    papers, offsets = {}, {}
    for id, text in content["documents"].items():
        blocks = [block for block in re.finditer(r"[^\n]+", text) if len(block[0]) >= _MIN_PARAGRAPH_CHARS]
        papers[id] = Page(f"papers/{id}.txt", [block[0] for block in blocks])
        offsets[id] = [block.start() for block in blocks]
    questions = []
    for each in content["questions"]:
        page, starts, at = papers[each["document_id"]], offsets[each["document_id"]], each["answer_start"]
        at += len(each["answer"]) - len(each["answer"].lstrip())
        index = max((i for i, start in enumerate(starts) if start <= at), default=-1)
        if index < 0 or at - starts[index] >= len(page.paragraphs[index]):
            continue
        inside = at - starts[index]
        sentence = next((s for s in sentence_spans(page.paragraphs[index]) if s[0] <= inside < s[1]), None)
        if sentence and sentence[1] - sentence[0] >= 20:
            questions.append(HumanQuestion(each["question"].strip(), page, index, sentence, each["answer"].strip()))
    return papers, questions
