"""Measure how well a small model reads: questions, each with the paragraph that answers it among four others.

    GOMP_SPINCOUNT=1000 .venv/bin/python scripts/eval/reader_model.py --squad xquad.en.json [--model FILE]
    GOMP_SPINCOUNT=1000 .venv/bin/python scripts/eval/reader_model.py --papers TEXT_FOLDER …

`--squad` is a file in SQuAD's format, such as XQuAD's English part; `--papers` uses the papers that
scripts/train/train_reader.py holds out. Answers are greedy, from the server's engine: unconstrained, and constrained to
the sources' sentences (`extractive`), as the server does with the built-in model. Reported, with 95 % intervals: the
share of answers that quote the sentence with the answer word for word; token-F1 of the answer with that sentence;
quotes that stand in a source character for character; citations that name the source of their quote; refusals of
questions whose paragraph was removed, and of the others. Baselines, without a chat model: the first sentence of the
first passage, passages ordered by the embedder; the sentence most similar to the question; and that with the words of
the question counted as well.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from local_search import open_named_embedder
from reader.corpus import read_corpus, sentence_spans

from index.types import Vectors
from models.catalog import ResolvedChatModel, resolve_chat
from models.encoder.embedder import Embedder
from models.llm.chat.chat_template import ChatTemplate
from models.llm.chat.messages import ChatMessage
from models.llm.chat.prompt_tokenizer import PromptTokenizer
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Generate
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.llama.runner import LlamaRunner
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams, SamplingParams
from models.threads import num_physical_cores
from server.rag.prompts import NO_ANSWER, SYSTEM
from server.rag.sentences import sentences
from server.rag.snippets import WORDS, SnippetSelector

_NUM_DISTRACTORS = 4
_MAX_PARAGRAPH_CHARS = 800
_TIMED_PROMPT_TOKENS = 700
_MAX_ANSWER_TOKENS = 200
_MARKER = re.compile(r" ?\[(\d+)\]")
_WORD = re.compile(r"\w+")
_QUOTE_PREFIXES = ("Yes. ", "No. ", "- ", "and ", ", ")


class Item(NamedTuple):
    """A question, the article and the paragraph it is about, and the paragraph's sentences that hold an answer."""

    question: str
    article: str
    paragraph: str
    answer_sentences: frozenset[str]


class Case(NamedTuple):
    item: Item
    paragraphs: Sequence[str]  # the sources 1, 2, …
    answerable: bool

    def prompt(self, *, question_first: bool) -> str:
        """Return the prompt in the layout of the server; `question_first`: with the question in front as well."""
        question = f"Question: {self.item.question}"
        sources = "".join(f"[{i}] article-{i}.txt\n{text}\n\n" for i, text in enumerate(self.paragraphs, 1))
        return f"{question}\n\n{sources}{question}" if question_first else sources + question

    @property
    def choices(self) -> list[str]:
        """The sentences of all sources with their citations, and the refusal."""
        quotes = [f"{sentence} [{i}]" for i, text in enumerate(self.paragraphs, 1) for sentence in sentences(text)]
        return [*dict.fromkeys(quotes), NO_ANSWER]

    @property
    def choices_of_first(self) -> list[str]:
        """The choices in the server, which ranks the sources and decides itself whether to refuse."""
        return [f"{sentence} [1]" for sentence in sentences(self.paragraphs[0])]


def read_squad(file: Path) -> list[Item]:
    items = []
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            text, spans = paragraph["context"], sentence_spans(paragraph["context"])
            for question in paragraph["qas"]:
                starts = {answer["answer_start"] for answer in question["answers"]}
                answers = {text[a:b] for a, b in spans if any(a <= start < b for start in starts)}
                if answers:
                    items.append(Item(question["question"], article["title"], text, frozenset(answers)))
    return items


def read_papers(folder: Path) -> list[Item]:
    """Return questions about the papers held out from training. Long paragraphs are cut around the answer."""
    items = []
    for each in read_corpus(folder).held_out_questions:
        text = each.page.paragraphs[each.paragraph]
        sentence = text[slice(*each.sentence)]
        if len(sentence) <= _MAX_PARAGRAPH_CHARS:
            items.append(Item(each.question, each.page.path, _window(text, each.sentence), frozenset({sentence})))
    return items


def _window(text: str, sentence: tuple[int, int]) -> str:
    """Return whole sentences around one, at most `_MAX_PARAGRAPH_CHARS`."""
    spans = sentence_spans(text)
    first = last = spans.index(sentence)
    while True:
        if last + 1 < len(spans) and spans[last + 1][1] - spans[first][0] <= _MAX_PARAGRAPH_CHARS:
            last += 1
        elif first > 0 and spans[last][1] - spans[first - 1][0] <= _MAX_PARAGRAPH_CHARS:
            first -= 1
        else:
            return text[spans[first][0] : spans[last][1]]


def draw_cases(items: Sequence[Item], count: int, seed: int = 1) -> list[Case]:
    """Return two cases of each drawn question: with its paragraph among the sources, and without."""
    rng = random.Random(seed)
    items = [item for item in items if not _MARKER.search(item.paragraph)]  # a marker would count as a citation
    cases = []
    for item in rng.sample(items, min(count, len(items))):
        others = sorted({each.paragraph for each in items if each.article != item.article})
        distractors = rng.sample(others, _NUM_DISTRACTORS + 1)
        paragraphs = [item.paragraph, *distractors[:_NUM_DISTRACTORS]]
        rng.shuffle(paragraphs)
        cases += [Case(item, paragraphs, True), Case(item, distractors, False)]
    return cases


async def with_snippets(cases: Sequence[Case], embedder: Embedder, max_chars: int) -> list[Case]:
    """Return the cases with snippets of at most `max_chars` in place of paragraphs, the likeliest answer first."""

    async def embed(texts: Sequence[str]) -> Vectors:
        return embedder.embed_queries(texts)

    shortened, selector = [], SnippetSelector()
    for case in cases:
        snippets = await selector.select(case.item.question, case.paragraphs, max_chars, embed)
        snippets.sort(key=lambda each: -each.answer_score)
        shortened.append(case._replace(paragraphs=[each.text for each in snippets if each.text]))
    return shortened


class TimedAnswer(NamedTuple):
    text: str
    num_tokens: int
    first_s: float  # to the first token
    last_s: float


class ModelUnderTest:
    """A model in the server's engine, with one request at a time."""

    def __init__(self, model: ResolvedChatModel, threads: int) -> None:
        file, self.question_first, self.n_ctx = model.path, model.question_first, 2048
        params = EngineParams(n_ctx=self.n_ctx, num_slots=1, num_threads=threads)
        self.vocabulary = Vocabulary(file)
        self._runner = LlamaRunner(file, params)
        self._template = ChatTemplate(self.vocabulary.chat_template or "", eos="")
        self._tokenizer = PromptTokenizer(self.vocabulary)
        limits, ends = self._runner.limits, self.vocabulary.end_tokens
        self._engine = Engine(
            Scheduler(limits, ends), self._runner, self.vocabulary.eos, prefill_budget=PrefillBudget(limits.n_batch)
        )
        self._id = 0

    def case_tokens(self, case: Case) -> list[int]:
        question = ChatMessage.of_text("user", case.prompt(question_first=self.question_first))
        return self.tokenize([ChatMessage.of_text("system", SYSTEM), question])

    def tokenize(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Return the tokens of a conversation in the model's chat template."""
        return list(self._tokenizer(self._template.render(messages)))

    def answer(self, prompt: list[int], choices: Sequence[str] = (), limit: int = _MAX_ANSWER_TOKENS) -> TimedAnswer:
        """Answer greedily; with `choices`, by one of them."""
        self._id += 1
        allowed = [self.vocabulary.tokenize(choice, parse_special=False) for choice in choices] or None
        started = time.perf_counter()
        self._engine.add(Generate(self._id, prompt, limit, SamplingParams(temperature=0), allowed))
        tokens, first_s = list[int](), 0.0
        while not self._engine.is_idle:
            for delta in self._engine.step():
                if delta.error:
                    raise SystemExit(f"the engine failed: {delta.error}")
                tokens += delta.tokens
                first_s = first_s or time.perf_counter() - started
        text = b"".join(self.vocabulary.piece(token) for token in tokens).decode(errors="replace")
        return TimedAnswer(text.strip(), len(tokens), first_s, time.perf_counter() - started)


def cited_quotes(answer: str) -> list[tuple[str, int]]:
    """Return the quotes of an answer, each with the number of its citation marker."""
    quotes, at = [], 0
    for marker in _MARKER.finditer(answer):
        quote = answer[at : marker.start()].strip()
        at = marker.end()
        for prefix in _QUOTE_PREFIXES:
            quote = quote.removeprefix(prefix).strip()
        quotes.append((quote, int(marker[1])))
    return quotes


def token_f1(text: str, expected: str) -> float:
    """Return the F1 of words, as SQuAD defines it."""
    ours, theirs = (Counter(_WORD.findall(each.lower())) for each in (text, expected))
    num_shared = (ours & theirs).total()
    return 2 * num_shared / (ours.total() + theirs.total()) if num_shared else 0.0


class Score:
    def __init__(self) -> None:
        self.right, self.f1, self.exact, self.cited = list[bool](), list[float](), list[bool](), list[bool]()
        self.refused: dict[bool, list[bool]] = {True: [], False: []}  # by whether the question is answerable

    def add(self, case: Case, answer: str) -> None:
        is_refusal = NO_ANSWER in answer
        self.refused[case.answerable].append(is_refusal)
        if case.answerable:
            expected = case.item.answer_sentences
            self.right.append(any(sentence in answer for sentence in expected))
            self.f1.append(max(token_f1(_MARKER.sub("", answer), sentence) for sentence in expected))
        if is_refusal:
            return
        quotes = cited_quotes(answer)
        self.exact += [any(quote in text for text in case.paragraphs) for quote, _ in quotes] or [False]
        self.cited += [self._is_right_citation(case, quote, number) for quote, number in quotes] or [False]

    def _is_right_citation(self, case: Case, quote: str, number: int) -> bool:
        """Return whether no other source is closer to the quote than the cited one."""
        if not 1 <= number <= len(case.paragraphs):
            return False
        scores = [token_f1(quote, text) if quote not in text else 2.0 for text in case.paragraphs]
        return scores[number - 1] == max(scores)

    def report(self, name: str) -> None:
        print(f"\n{name}")
        print(f"  right sentence {share(self.right)}, token-F1 {statistics.mean(self.f1):.3f}")
        if self.exact:
            print(f"  exact quotes {share(self.exact)}, right citation {share(self.cited)}")
        refused, falsely = self.refused[False], self.refused[True]
        if refused:
            num_refused = sum(refused) + sum(falsely)
            print(
                f"  refuses unanswerable questions {share(refused)}, answerable ones {share(falsely)}; "
                f"precision {sum(refused) / num_refused if num_refused else 0:.3f}"
            )


def share(values: Sequence[bool]) -> str:
    """Return the share in percent, with its 95 % interval (Wilson)."""
    n, p, z = len(values), sum(values) / max(1, len(values)), 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5 / (1 + z * z / n)
    return f"{p:.1%} ({100 * (middle - half):.0f} to {100 * (middle + half):.0f}) of {n}"


def score_baselines(embedder: Embedder, cases: Sequence[Case]) -> Iterator[tuple[str, Score]]:
    first, similar, with_words, selector = Score(), Score(), Score(), SnippetSelector()
    for case in (each for each in cases if each.answerable):
        choices = [(i, each) for i, text in enumerate(case.paragraphs, 1) for each in sentences(text)]
        vectors = embedder.embed_queries([case.item.question, *case.paragraphs, *(each for _, each in choices)])
        similarity: np.ndarray = vectors[1:] @ vectors[0]
        top = int(similarity[: len(case.paragraphs)].argmax())
        first.add(case, f"{sentences(case.paragraphs[top])[0]} [{top + 1}]")
        of_sentences = similarity[len(case.paragraphs) :]
        number, sentence = choices[int(of_sentences.argmax())]
        similar.add(case, f"{sentence} [{number}]")
        shares = selector.word_shares(case.item.question, [each for _, each in choices])
        number, sentence = choices[int((of_sentences + WORDS * np.array(shares)).argmax())]
        with_words.add(case, f"{sentence} [{number}]")
    yield "first sentence of the top passage", first
    yield "sentence most similar to the question, by the embedder", similar
    yield "the same with the question's words counted, as the server selects snippets", with_words


def print_speed(model: ModelUnderTest, cases: Sequence[Case], rounds: int = 7) -> None:
    ending = model.case_tokens(cases[0])[-6:]
    prompts = [(model.case_tokens(case)[:-6] * 4)[: _TIMED_PROMPT_TOKENS - 6] + ending for case in cases[:rounds]]
    answers = [model.answer(prompt, limit=64) for prompt in prompts]
    rates = [(each.num_tokens - 1) / (each.last_s - each.first_s) for each in answers if each.num_tokens > 8]
    rate = f"{statistics.median(rates):.0f}" if rates else "–"
    first_s = statistics.median(each.first_s for each in answers)
    print(
        f"\nfirst token of a {_TIMED_PROMPT_TOKENS}-token prompt after {first_s:.3f} s, then {rate} tokens/s; "
        f"{num_physical_cores()} cores, load {os.getloadavg()[0]:.1f}"
    )


def score_model(name: str, model: ModelUnderTest, cases: Sequence[Case], *, has_snippets: bool) -> None:
    """Print the scores of a model, unconstrained and constrained, and its speed."""
    modes: dict[str, Callable[[Case], Sequence[str]]] = {
        "unconstrained": lambda case: (),
        "constrained to quotes": lambda case: case.choices,
    }
    if has_snippets:
        modes["constrained to the first source, as in the server"] = lambda case: case.choices_of_first
    for mode, choices in modes.items():
        score = Score()
        for case in cases:
            score.add(case, model.answer(model.case_tokens(case), choices(case)).text)
        score.report(f"{name}, {mode}")
    print_speed(model, cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--squad", type=Path)
    source.add_argument("--papers", type=Path)
    parser.add_argument("--model", action="append", help="may be given more than once")
    parser.add_argument("--question-first", action="store_true", help="for a model that the catalog does not contain")
    parser.add_argument("--max-passage-chars", type=int, default=0, help="use snippets, the likeliest answer first")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--embedder", default="all-MiniLM-L6-v2")
    options = parser.parse_args()
    if os.environ.get("GOMP_SPINCOUNT") != "1000":
        parser.error("set GOMP_SPINCOUNT=1000, as the server does for its engine")
    cases = draw_cases(read_squad(options.squad) if options.squad else read_papers(options.papers), options.questions)
    embedder = open_named_embedder(options.embedder, options.threads)
    passages = "whole paragraphs"
    if options.max_passage_chars:
        cases = asyncio.run(with_snippets(cases, embedder, options.max_passage_chars))
        passages = f"{options.max_passage_chars} characters of each paragraph, as in the server"
    print(f"{len(cases) // 2} questions, each with and without its paragraph; {passages}")
    for name, score in score_baselines(embedder, cases):
        score.report(name)
    for name in options.model or ["reader-v1"]:
        model = resolve_chat(name)
        if options.question_first:
            model = msgspec.structs.replace(model, question_first=True)
        under_test = ModelUnderTest(model, options.threads)
        score_model(name, under_test, cases, has_snippets=bool(options.max_passage_chars))


if __name__ == "__main__":
    main()
