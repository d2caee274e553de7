"""Measures how well a small model reads: questions, each with the paragraph that answers it among four others.

    GOMP_SPINCOUNT=1000 .venv/bin/python scripts/eval/reader_model.py --squad xquad.en.json [--model FILE]
    GOMP_SPINCOUNT=1000 .venv/bin/python scripts/eval/reader_model.py --papers TEXT_FOLDER …

`--squad` is a file in SQuAD's form, such as XQuAD's English part; `--papers` asks about the papers that
scripts/train/train_reader.py keeps for this. Greedy, through the product's engine: unconstrained, and constrained to
the sources' sentences (`extractive`), as the product does with the built-in model. Reported, with 95 % intervals: of
how many questions the sentence with the answer is quoted word for word; token-F1 of the answer with that sentence;
quotes that stand in a source character for character; citations that name the source of their quote; refusals of
questions whose paragraph was taken away, and of the others. Two baselines: the first sentence of the first passage,
passages ordered by the embedder; and of all sentences the one most like the question.
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

from reader.corpus import read_corpus, spans

from index.types import Vectors
from models.catalog import ResolvedChatModel, resolve_chat, resolve_embedding
from models.encoder.embedder import Embedder, open_embedder
from models.encoder.model_exports import ModelExports
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
from server.settings.settings import Settings

_DISTRACTORS = 4
_LONGEST = 800  # characters of a paragraph
_PROMPT = 700  # tokens of the prompt whose first token is timed
_MARKER = re.compile(r" ?\[(\d+)\]")
_WORD = re.compile(r"\w+")
_LEADS = ("Yes. ", "No. ", "- ", "and ", ", ")


class Item(NamedTuple):
    """A question, the article and the paragraph it is about, and its sentences that hold an answer."""

    question: str
    article: str
    paragraph: str
    right: frozenset[str]


class Case(NamedTuple):
    item: Item
    paragraphs: Sequence[str]  # the sources 1, 2, …
    answerable: bool

    def prompt(self, *, question_first: bool) -> str:
        """Return the prompt in layout v1; `question_first`: the question stands in front as well."""
        question = f"Question: {self.item.question}"
        sources = "".join(f"[{i}] article-{i}.txt\n{text}\n\n" for i, text in enumerate(self.paragraphs, 1))
        return f"{question}\n\n{sources}{question}" if question_first else sources + question

    @property
    def choices(self) -> list[str]:
        found = [f"{said} [{i}]" for i, text in enumerate(self.paragraphs, 1) for said in sentences(text)]
        return [*dict.fromkeys(found), NO_ANSWER]

    @property
    def choices_of_first(self) -> list[str]:
        """The choices that the product gives, which ranks the sources and decides whether any answers."""
        return [f"{said} [1]" for said in sentences(self.paragraphs[0])]


def read_squad(file: Path) -> list[Item]:
    items = []
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            text, found = paragraph["context"], spans(paragraph["context"])
            for asked in paragraph["qas"]:
                starts = {answer["answer_start"] for answer in asked["answers"]}
                right = {text[a:b] for a, b in found if any(a <= start < b for start in starts)}
                if right:
                    items.append(Item(asked["question"], article["title"], text, frozenset(right)))
    return items


def read_papers(folder: Path) -> list[Item]:
    """Return questions about the papers that are kept from training. Long paragraphs are cut around the answer."""
    items = []
    for asked in read_corpus(folder).held_asked:
        text = asked.page.paragraphs[asked.paragraph]
        right = text[slice(*asked.sentence)]
        if len(right) <= _LONGEST:
            items.append(Item(asked.question, asked.page.path, _window(text, asked.sentence), frozenset({right})))
    return items


def _window(text: str, sentence: tuple[int, int]) -> str:
    """Return whole sentences around one, at most `_LONGEST` characters."""
    found = spans(text)
    first = last = found.index(sentence)
    while True:
        if last + 1 < len(found) and found[last + 1][1] - found[first][0] <= _LONGEST:
            last += 1
        elif first > 0 and found[last][1] - found[first - 1][0] <= _LONGEST:
            first -= 1
        else:
            return text[found[first][0] : found[last][1]]


def cases(items: Sequence[Item], count: int, seed: int = 1) -> list[Case]:
    """Return cases of which half are answerable; the others are the same questions without their paragraph."""
    rng = random.Random(seed)
    items = [item for item in items if not _MARKER.search(item.paragraph)]  # which would pass for a citation
    made = []
    for item in rng.sample(items, min(count, len(items))):
        others = sorted({each.paragraph for each in items if each.article != item.article})
        drawn = rng.sample(others, _DISTRACTORS + 1)
        told = [item.paragraph, *drawn[:_DISTRACTORS]]
        rng.shuffle(told)
        made += [Case(item, told, True), Case(item, drawn, False)]
    return made


async def with_snippets(asked: Sequence[Case], embedder: Embedder, limit: int) -> list[Case]:
    """Return the cases with snippets in place of paragraphs, as the product gives them to a small model: at most
    `limit` characters each, the one that answers best first."""

    async def embed(texts: Sequence[str]) -> Vectors:
        return embedder.embed_queries(texts)

    made, selector = [], SnippetSelector()
    for case in asked:
        found = await selector.select(case.item.question, case.paragraphs, limit, embed)
        found.sort(key=lambda each: -each.answer_score)
        made.append(case._replace(paragraphs=[each.text for each in found if each.text]))
    return made


class Reader:
    """A model in the product's engine, with one request at a time."""

    def __init__(self, model: ResolvedChatModel, threads: int) -> None:
        file, self.question_first, self.n_ctx = model.path, model.question_first, 2048
        params = EngineParams(n_ctx=self.n_ctx, num_slots=1, num_threads=threads)
        self.vocabulary = Vocabulary(file)
        self._runner = LlamaRunner(file, params)
        self._template = ChatTemplate(self.vocabulary.chat_template or "", eos="")
        self._tokens = PromptTokenizer(self.vocabulary)
        limits, ends = self._runner.limits, self.vocabulary.end_tokens
        self._engine = Engine(
            Scheduler(limits, ends), self._runner, self.vocabulary.eos, prefill_budget=PrefillBudget(limits.n_batch)
        )
        self._id = 0

    def tokens(self, case: Case) -> list[int]:
        return self.format_messages([("system", SYSTEM), ("user", case.prompt(question_first=self.question_first))])

    def format_messages(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Return the tokens of a conversation, given as roles and texts, in the model's chat template."""
        return list(self._tokens(self._template.render([ChatMessage.of_text(role, text) for role, text in messages])))

    def answer(self, prompt: list[int], choices: Sequence[str] = (), limit: int = 200) -> tuple[str, int, float, float]:
        """Return the answer, its number of tokens, and the seconds to its first and to its last token."""
        self._id += 1
        allowed = [self.vocabulary.tokenize(choice, parse_special=False) for choice in choices] or None
        started = time.perf_counter()
        self._engine.add(Generate(self._id, prompt, limit, SamplingParams(temperature=0), allowed))
        made, first = list[int](), 0.0
        while not self._engine.is_idle:
            for delta in self._engine.step():
                if delta.error:
                    raise SystemExit(f"the engine failed: {delta.error}")
                made += delta.tokens
                first = first or time.perf_counter() - started
        text = b"".join(self.vocabulary.piece(token) for token in made).decode(errors="replace")
        return text.strip(), len(made), first, time.perf_counter() - started


def quotes_of(answer: str) -> list[tuple[str, int]]:
    """Return the quotes of an answer, each with the number of its marker."""
    found, at = [], 0
    for marker in _MARKER.finditer(answer):
        said = answer[at : marker.start()].strip()
        at = marker.end()
        for lead in _LEADS:
            said = said.removeprefix(lead).strip()
        found.append((said, int(marker[1])))
    return found


def f1(said: str, wanted: str) -> float:
    """Return the F1 of words, as SQuAD defines it."""
    ours, theirs = (Counter(_WORD.findall(text.lower())) for text in (said, wanted))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0


class Score:
    def __init__(self) -> None:
        self.right, self.f1, self.exact, self.cited = list[bool](), list[float](), list[bool](), list[bool]()
        self.refused: dict[bool, list[bool]] = {True: [], False: []}

    def take(self, case: Case, answer: str) -> None:
        refuses = NO_ANSWER in answer
        self.refused[case.answerable].append(refuses)
        if case.answerable:
            self.right.append(any(right in answer for right in case.item.right))
            self.f1.append(max(f1(_MARKER.sub("", answer), right) for right in case.item.right))
        if refuses:
            return
        made = quotes_of(answer)
        self.exact += [any(said in text for text in case.paragraphs) for said, _ in made] or [False]
        self.cited += [self._is_cited(case, said, number) for said, number in made] or [False]

    def _is_cited(self, case: Case, said: str, number: int) -> bool:
        if not 1 <= number <= len(case.paragraphs):
            return False
        shared = [f1(said, text) if said not in text else 2.0 for text in case.paragraphs]
        return shared[number - 1] == max(shared)

    def report(self, name: str) -> None:
        print(f"\n{name}")
        print(f"  right sentence {share(self.right)}, token-F1 {statistics.mean(self.f1):.3f}")
        if self.exact:
            print(f"  exact quotes {share(self.exact)}, right citation {share(self.cited)}")
        refused, falsely = self.refused[False], self.refused[True]
        if refused:
            given = sum(refused) + sum(falsely)
            print(
                f"  abstains on unanswerables {share(refused)}, falsely {share(falsely)}; "
                f"precision {sum(refused) / given if given else 0:.3f}"
            )


def share(values: Sequence[bool]) -> str:
    """Return the share in percent, with its 95 % interval (Wilson)."""
    n, p, z = len(values), sum(values) / max(1, len(values)), 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5 / (1 + z * z / n)
    return f"{p:.1%} ({100 * (middle - half):.0f} to {100 * (middle + half):.0f}) of {n}"


def baselines(embedder: Embedder, asked: Sequence[Case]) -> Iterator[tuple[str, Score]]:
    first, likest, worded, selector = Score(), Score(), Score(), SnippetSelector()
    for case in (each for each in asked if each.answerable):
        said = [(i, each) for i, text in enumerate(case.paragraphs, 1) for each in sentences(text)]
        vectors = embedder.embed_queries([case.item.question, *case.paragraphs, *(each for _, each in said)])
        similarity: np.ndarray = vectors[1:] @ vectors[0]
        top = int(similarity[: len(case.paragraphs)].argmax())
        first.take(case, f"{sentences(case.paragraphs[top])[0]} [{top + 1}]")
        of_sentences = similarity[len(case.paragraphs) :]
        number, best = said[int(of_sentences.argmax())]
        likest.take(case, f"{best} [{number}]")
        shares = selector.word_shares(case.item.question, [each for _, each in said])
        number, best = said[int((of_sentences + WORDS * np.array(shares)).argmax())]
        worded.take(case, f"{best} [{number}]")
    yield "first sentence of the top passage", first
    yield "sentence most like the question, by the embedder", likest
    yield "the same with the question's words in it, as the product begins its passages", worded


def speed(reader: Reader, asked: Sequence[Case], rounds: int = 7) -> None:
    text = reader.tokens(asked[0])
    prompts = [(reader.tokens(case)[:-6] * 4)[: _PROMPT - 6] + text[-6:] for case in asked[:rounds]]
    firsts, rates = [], []
    for prompt in prompts:
        _, made, first, last = reader.answer(prompt, limit=64)
        firsts.append(first)
        if made > 8:
            rates.append((made - 1) / (last - first))
    rate = f"{statistics.median(rates):.0f}" if rates else "–"
    print(
        f"\nfirst token of a {_PROMPT}-token prompt after {statistics.median(firsts):.3f} s, then {rate} tokens/s; "
        f"{num_physical_cores()} cores, load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--squad", type=Path)
    chosen.add_argument("--papers", type=Path)
    parser.add_argument("--model", action="append", help="may be given more than once")
    parser.add_argument("--asks-first", action="store_true", help="of a model that the catalog does not know")
    parser.add_argument("--brief", type=int, default=0, metavar="CHARACTERS", help="cut the paragraphs, best first")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--embedder", default="all-MiniLM-L6-v2")
    options = parser.parse_args()
    if os.environ.get("GOMP_SPINCOUNT") != "1000":
        parser.error("set GOMP_SPINCOUNT=1000, as the server does for its engine")
    items = read_squad(options.squad) if options.squad else read_papers(options.papers)
    asked = cases(items, options.questions)
    files = asyncio.run(
        ModelExports(Settings().cache_folder, "auto").files(resolve_embedding(options.embedder), "embedding")
    )
    embedder = open_embedder(files, options.threads)
    shape = "whole paragraphs"
    if options.brief:
        asked = asyncio.run(with_snippets(asked, embedder, options.brief))
        shape = f"{options.brief} characters of each paragraph, as the product gives them"
    print(f"{len(asked) // 2} questions, each with and without its paragraph; {shape}")
    for name, score in baselines(embedder, asked):
        score.report(name)
    for name in options.model or ["reader-v1"]:
        model = resolve_chat(name)
        if options.question_first:
            model = msgspec.structs.replace(model, question_first=True)
        reader = Reader(model, options.threads)
        manners: dict[str, Callable[[Case], Sequence[str]]] = {
            "free": lambda case: (),
            "held to quotes": lambda case: case.choices,
        }
        if options.brief:
            manners["held to the first source, as in the product"] = lambda case: case.choices_of_first
        for manner, choices in manners.items():
            score = Score()
            for case in asked:
                score.take(case, reader.answer(reader.tokens(case), choices(case))[0])
            score.report(f"{name}, {manner}")
        speed(reader, asked)


if __name__ == "__main__":
    main()
