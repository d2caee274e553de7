"""Builds a training conversation turn by turn: sources, a question about them and its answer."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from reader.conversation import (
    QUESTION_PREFIX,
    AnswerBuilder,
    Message,
    QuotableSentence,
    Source,
    SourceSentence,
)
from reader.corpus import IdfWeights, content_words, sentence_spans, stem, stems
from reader.questions import generate_question, inflect
from server.rag.prompts import NO_ANSWER, SYSTEM

_SYSTEM_PROMPTS = (
    SYSTEM, SYSTEM, SYSTEM, SYSTEM, "Answer from the sources and cite them like [1].", "You are a helpful assistant.",
    "Use the numbered sources to answer. If they do not contain the answer, say so.",
    f"You are a helpful assistant.\n\n{SYSTEM}", f"Be brief.\n\n{SYSTEM}", "",
)  # fmt: skip
_MIN_OVERLAP_RATIO = 1.2  # of the answering sentence's overlap with the question to that of any other sentence
_MAX_UNANSWERABLE_OVERLAP = 0.25  # of a question's weight that a sentence may share although it is unanswerable
_NUMBER = re.compile(r"\b\d[\d,.]*\d?(?: [a-z]{3,12})?\b")
_NEGATION = re.compile(r" (?:not|never|cannot)\b")
_AUXILIARY = re.compile(
    r"^(?P<a>[^,;:()]{3,60}?) (?P<be>is|are|was|were|can|must|should|may|will|has) (?P<b>.{8,})[.]$"
)

Exchange = tuple[str, AnswerBuilder]  # a question and its answer


class GeneratedTurn(NamedTuple):
    """Settings for a turn whose question is generated from its sources."""

    difficulty: float  # 0 to 1
    refusal_share: float  # of questions, how many the sources do not answer
    unrelated_text: Callable[[], str]


class PreparedTurn(NamedTuple):
    """A question and the sentence that answers it; None: the sources of the turn do not answer it."""

    question: str
    sentence: str | None


def first_messages(rng: Random) -> list[Message]:
    """Return a random system message, or none."""
    system = rng.choice(_SYSTEM_PROMPTS)
    return [Message("system", system)] if system else []


class ConversationBuilder:
    def __init__(self, rng: Random, idf: IdfWeights) -> None:
        self._rng, self._idf = rng, idf
        self.messages = first_messages(rng)
        self._sentences: list[QuotableSentence] = []  # of all turns
        self._new_sentences: list[QuotableSentence] = []  # of the newest turn with sources
        self._num_sources = 0
        self.num_chars = 0

    @property
    def has_sources(self) -> bool:
        return bool(self._sentences)

    def add_turn(self, sources: Sequence[Source], turn: GeneratedTurn | PreparedTurn) -> None:
        """Append a user message with these sources in front of its question, and its answer."""
        text, spans = self._write_sources(sources)
        question, answer = self._exchange(turn)
        start = len(text) + len(QUESTION_PREFIX)
        text += f"{QUESTION_PREFIX}{question}"
        lead = f"{QUESTION_PREFIX}{question}\n\n" if sources else ""
        self.num_chars += len(text) + len(answer.text)
        self.messages.append(Message("user", text, spans, (start, len(text)), lead=lead))
        is_refusal = answer.text == NO_ANSWER
        self.messages.append(Message("assistant", answer.text, quotes=answer.quotes, is_refusal=is_refusal))

    def _write_sources(self, sources: Sequence[Source]) -> tuple[str, list[SourceSentence]]:
        """Return the numbered sources as text, and the spans of their sentences in it."""
        text, spans = "", list[SourceSentence]()
        message, sentences = len(self.messages), list[QuotableSentence]()
        for source in sources:
            self._num_sources += 1
            number_at = len(text) + 1
            text += f"[{self._num_sources}] {source.label}\n"
            for start, end in sentence_spans(source.text):
                span = SourceSentence(len(text) + start, len(text) + end, number_at)
                spans.append(span)
                sentence = source.text[start:end]
                sentences.append(QuotableSentence(message, span, sentence, stems(sentence), self._num_sources))
            text += f"{source.text}\n\n"
        self._sentences += sentences
        if sources:
            self._new_sentences = sentences
        return text, spans

    def _exchange(self, turn: GeneratedTurn | PreparedTurn) -> Exchange:
        if isinstance(turn, PreparedTurn):
            return self._prepared_exchange(turn)
        rng = self._rng
        if rng.random() < turn.refusal_share and (question := self._unanswerable_question(turn)):
            return question, AnswerBuilder().append(NO_ANSWER)
        if turn.difficulty < 0.35 and rng.random() < 0.8 - 2 * turn.difficulty:
            sentence = rng.choice(self._new_sentences or self._sentences)
            return self._excerpt(sentence.text), _quote_and_cite(sentence)
        if turn.difficulty > 0.5 and rng.random() < 0.25:
            kinds = (
                self._sources_question, self._yes_no_question, self._number_question, self._number_question,
                self._list_question,
            )  # fmt: skip
            if exchange := rng.choice(kinds)():
                return exchange
        return self._sentence_question()

    def _prepared_exchange(self, turn: PreparedTurn) -> Exchange:
        if turn.sentence is None:
            return turn.question, AnswerBuilder().append(NO_ANSWER)
        sentence = next((each for each in self._sentences if each.text == turn.sentence), None)
        return (turn.question, _quote_and_cite(sentence)) if sentence else self._sentence_question()

    def _excerpt(self, sentence: str) -> str:
        """Return consecutive words of a sentence, or all of it: the easiest question."""
        rng, parts = self._rng, sentence.split()
        if rng.random() < 0.5:
            return sentence
        at = rng.randrange(len(parts))
        return " ".join(parts[at : at + rng.randint(3, 12)])

    def _sentence_question(self) -> Exchange:
        """Return a question that one sentence answers better than all others, with the quoted sentence."""
        for _ in range(12):
            sentence = self._rng.choice(self._new_sentences if self._rng.random() < 0.8 else self._sentences)
            question = generate_question(self._rng, sentence.text, self._idf)
            if question and len(sentence.text) >= 20 and self._is_unambiguous(question, sentence):
                return question, _quote_and_cite(sentence)
        sentence = self._rng.choice(self._sentences)
        return self._excerpt(sentence.text), _quote_and_cite(sentence)

    def _is_unambiguous(self, question: str, sentence: QuotableSentence) -> bool:
        """Return whether no other sentence shares nearly as much with the question."""
        question_stems = stems(question)
        overlap = self._idf.overlap(question_stems, sentence.stems)
        others = (
            self._idf.overlap(question_stems, each.stems) for each in self._sentences if each.text != sentence.text
        )
        return overlap > 0 and overlap >= _MIN_OVERLAP_RATIO * max(others, default=0.0)

    def _unanswerable_question(self, turn: GeneratedTurn) -> str | None:
        """Return a question about an unrelated text that shares little with every sentence of the sources."""
        for _ in range(6):
            text = turn.unrelated_text()
            spans = sentence_spans(text)
            if not spans:
                continue
            start, end = self._rng.choice(spans)
            question = generate_question(self._rng, text[start:end], self._idf)
            if not question or not (question_stems := stems(question)):
                continue
            total = sum(self._idf.weight(each) for each in question_stems)
            best = max((self._idf.overlap(question_stems, each.stems) for each in self._sentences), default=0.0)
            if best < _MAX_UNANSWERABLE_OVERLAP * total:
                return question
        return None

    def _sources_question(self) -> Exchange | None:
        """Return a question for the sources that contain a word, answered by their numbers."""
        sentence = self._rng.choice(self._sentences)
        rare_words = sorted(content_words(sentence.text), key=lambda word: -self._idf.weight(stem(word)))[:6]
        if not rare_words:
            return None
        word = self._rng.choice(rare_words)
        by_source: dict[int, QuotableSentence] = {}
        for each in self._sentences:
            if re.search(rf"\b{re.escape(word)}\b", each.text, re.IGNORECASE):
                by_source.setdefault(each.number, each)
        if not 1 <= len(by_source) <= 4:
            return None
        answer = AnswerBuilder()
        for i, each in enumerate(by_source.values()):
            answer.cite(each, "" if i == 0 else " and " if i == len(by_source) - 1 else ", ")
        question = self._rng.choice(
            ("Which sources mention {}?", "which sources mention {}", "Which documents talk about {}?")
        )
        return question.format(word), answer

    def _yes_no_question(self) -> Exchange | None:
        """Return a sentence turned into a question; "No" where it is negated or its number was changed."""
        rng = self._rng
        matches = [(each, m) for each in self._new_sentences if (m := _AUXILIARY.match(each.text))]
        if not matches:
            return None
        sentence, match = rng.choice(matches)
        rest, verdict = match["b"], "Yes"
        if _NEGATION.search(" " + rest):
            rest, verdict = _NEGATION.sub("", " " + rest, count=1).strip(), "No"
        elif rng.random() < 0.3 and (number := re.search(r"\b\d+\b", rest)):
            rest = rest[: number.start()] + str(int(number[0]) + rng.randint(1, 9)) + rest[number.end() :]
            verdict = "No"
        subject = (
            match["a"]
            if match["a"].split()[0].lower() not in {"the", "a", "an", "this"}
            else match["a"][:1].lower() + match["a"][1:]
        )
        question = f"{match['be'].capitalize()} {subject} {rest}?"
        if not self._is_unambiguous(question, sentence):
            return None
        return question, _quote_and_cite(sentence, AnswerBuilder().append(f"{verdict}. "))

    def _number_question(self) -> Exchange | None:
        """Return a question for the only number of a sentence, answered by the number and then the sentence."""
        rng = self._rng
        matches = [(each, m) for each in self._new_sentences if len(m := list(_NUMBER.finditer(each.text))) == 1]
        if not matches:
            return None
        sentence, (number,) = rng.choice(matches)
        unit = number[0].split()[1:]
        others = [word for word in content_words(sentence.text) if word not in number[0]]
        if len(others) < 2:
            return None
        picks = sorted(rng.sample(range(len(others)), min(len(others), rng.randint(2, 5))))
        rest = " ".join(inflect(rng, others[i]) for i in picks)
        question = f"How many {unit[0]} {rest}?" if unit else f"{rng.choice(('What number', 'How much'))} {rest}?"
        if not self._is_unambiguous(question, sentence):
            return None
        start, end = number.span()
        return question, _quote_and_cite(sentence, AnswerBuilder().quote(sentence, start, end).append(". "))

    def _list_question(self) -> Exchange | None:
        """Return a question for all sentences with a word, answered by a list of them."""
        rng = self._rng
        sentence = rng.choice(self._new_sentences)
        words = content_words(sentence.text)
        for word in rng.sample(words, min(5, len(words))):
            matches = [each for each in self._new_sentences if stem(word) in each.stems]
            if 2 <= len(matches) <= 3:
                answer = AnswerBuilder()
                for i, each in enumerate(matches):
                    _quote_and_cite(each, answer.append("\n- " if i else "- "))
                question = rng.choice(
                    ("List everything about {}.", "list what is said about {}", "List all about {}")
                ).format(word)
                return question, answer
        return None


def _quote_and_cite(sentence: QuotableSentence, answer: AnswerBuilder | None = None) -> AnswerBuilder:
    return (answer or AnswerBuilder()).quote(sentence).cite(sentence)
