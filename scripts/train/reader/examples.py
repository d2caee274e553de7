"""Generates training conversations: numbered sources, questions about them and the expected answers."""

import re
import string
from collections.abc import Sequence
from random import Random

from reader.conversation import GREETING, Message, Source
from reader.conversation_builder import ConversationBuilder, GeneratedTurn, PreparedTurn, first_messages
from reader.corpus import Corpus, HumanQuestion, IdfWeights, Page, content_words, sentence_spans, stems
from reader.questions import generate_question, keyword_question
from server.rag.sentences import truncate

_SMALL_TALK = (
    "hello", "hi", "hi there", "Hello!", "how are you?", "who are you?", "what can you do?", "thanks", "thank you",
    "good morning", "write a poem", "tell me a joke", "ok", "help", "What is the meaning of life?", "test", "hey",
    "are you there?", "what model are you?", "Write a haiku about the sea", "can you help me?", "bye", "Say hello.",
    "Count to five", "2+2?", "list three colors", "What are you?", "Who made you?",
)  # fmt: skip
_MAX_CHARS = (1_200, 3_000, 4_800, 4_800)  # of a conversation's sources; one of these is drawn
_MAX_SOURCES = 12
_MAX_MESSAGES = 14
_SNIPPET_CHARS = 300  # `max_passage_chars` of the built-in model


class Examples:
    """An endless source of conversations. The training sets `difficulty` and `refusal_share` as it advances.

    `difficulty` goes from 0 (copy from one short passage) to 1 (every kind of question); `refusal_share` is the share
    of questions that the sources do not answer.
    """

    def __init__(self, corpus: Corpus, seed: int, idf: IdfWeights | None = None, *, held_out: bool = False) -> None:
        self._rng = Random(seed)
        self._idf = idf or IdfWeights(corpus.pages)
        self._pages = corpus.held_out_pages if held_out else corpus.pages
        self._questions = corpus.held_out_questions if held_out else corpus.questions
        self._papers = list({each.page.path: each.page for each in self._questions}.values())
        self.difficulty, self.refusal_share = 1.0, 0.1
        self._max_chars = _MAX_CHARS[0]

    def next(self) -> list[Message]:
        rng = self._rng
        if rng.random() < 0.02:
            return self._small_talk()
        builder = ConversationBuilder(rng, self._idf)
        self._max_chars = round(rng.choice(_MAX_CHARS) * min(1.0, 0.2 + self.difficulty))
        num_turns = rng.choice((1, 1, 1, 2))
        if self._questions and self.difficulty > 0.3 and rng.random() < 0.25:
            self._add_human_question(builder)
        elif self.difficulty > 0.3 and rng.random() < 0.4:
            self._add_ranked_snippets(builder)
        else:
            builder.add_turn(self._sources(num_turns), self._generated_turn())
        while len(builder.messages) < _MAX_MESSAGES and builder.num_chars < self._max_chars and rng.random() < 0.8:
            if self.difficulty > 0.3 and rng.random() < 0.4:
                self._add_ranked_snippets(builder)
            elif rng.random() < 0.8 or not builder.has_sources:
                builder.add_turn(self._sources(2), self._generated_turn())
            else:
                builder.add_turn([], self._generated_turn())
        return builder.messages

    def _small_talk(self) -> list[Message]:
        """Return a conversation without sources, in which the answer is the greeting."""
        rng = self._rng
        question = rng.choice(_SMALL_TALK)
        if rng.random() < 0.3:
            page = rng.choice(self._pages)
            question = keyword_question(rng, rng.choice(page.paragraphs), self._idf) or question
        return [*first_messages(rng), Message("user", question), Message("assistant", GREETING)]

    def _generated_turn(self) -> GeneratedTurn:
        return GeneratedTurn(self.difficulty, self.refusal_share, self._random_paragraph)

    def _random_paragraph(self) -> str:
        page = self._rng.choice(self._pages)
        return self._rng.choice(page.paragraphs)

    def _page(self) -> Page:
        rng = self._rng
        return rng.choice(self._papers) if self._papers and rng.random() < 0.25 else rng.choice(self._pages)

    def _sources(self, num_turns: int) -> list[Source]:
        rng, difficulty = self._rng, self.difficulty
        if difficulty < 0.15:
            count, size = rng.choice((1, 1, 2)), rng.choice((90, 160, 260))
        elif difficulty < 0.35:
            count, size = rng.choice((1, 2, 2, 3)), rng.choice((120, 200, 350))
        else:
            count, size = rng.choice((1, 2, 3, 4, 5, 5, 6)), rng.choice((150, 250, 350, 500, 800, 800))
        if num_turns > 1:
            count = min(count, 3)
        count = min(count, max(1, self._max_chars // size // num_turns))
        first, sources, room = self._page(), list[Source](), self._max_chars / num_turns * rng.uniform(0.5, 1)
        while len(sources) < count or (difficulty > 0.35 and room > 0 and len(sources) < _MAX_SOURCES):
            sources.append(self._source(first if rng.random() < 0.4 else self._page(), size))
            room -= len(sources[-1].text)
        return sources

    def _source(self, page: Page, size: int, paragraph: int | None = None, around: int = 0) -> Source:
        """Return whole sentences of a page, about `size` characters in all.

        With a `paragraph`, they are taken from it, and the sentence at its character `around` is among them.
        """
        rng = self._rng
        at = rng.randrange(len(page.paragraphs)) if paragraph is None else paragraph
        text = page.paragraphs[at]
        spans = sentence_spans(text)
        if len(text) > size * 1.3 and len(spans) > 1:
            inside = around if paragraph is not None else rng.randrange(len(text))
            text = self._window(text, spans, size, inside)
        elif paragraph is None:
            while at + 1 < len(page.paragraphs) and len(text) + len(page.paragraphs[at + 1]) < size:
                at += 1
                text += "\n" + page.paragraphs[at]
        text = text[: max(400, self._max_chars // 2)]
        if paragraph is None and rng.random() < 0.12:
            text = self._with_invented_words(text)
        return Source(self._label(page), text.strip(), page.path)

    def _window(self, text: str, spans: Sequence[tuple[int, int]], size: int, inside: int) -> str:
        """Return sentences around the one at the character `inside`, at most `size` characters where possible."""
        start = max((i for i, span in enumerate(spans) if span[0] <= inside), default=0)
        first = last = start
        while first > 0 and spans[start][1] - spans[first - 1][0] < size and self._rng.random() < 0.6:
            first -= 1
        while last + 1 < len(spans) and spans[last + 1][1] - spans[first][0] < size:
            last += 1
        return text[spans[first][0] : spans[last][1]]

    def _with_invented_words(self, text: str) -> str:
        """Replace some words by random letters, so that the model learns to copy words it does not know."""
        rng = self._rng

        def replacement(match: re.Match[str]) -> str:
            if rng.random() > 0.3:
                return match[0]
            word = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 9)))
            return word.capitalize() if match[0][0].isupper() else word

        return re.sub(r"\b[^\W\d_]{4,}\b", replacement, text)

    def _label(self, page: Page) -> str:
        rng = self._rng
        name = page.path if rng.random() < 0.5 else page.path.rsplit("/", 1)[-1]
        if rng.random() < 0.4:
            words = content_words(rng.choice(page.paragraphs))
            heading = " ".join(words[: rng.randint(1, 3)]).capitalize()
            return f"{name} › {heading}" if heading else name
        return f"{name} › p. {rng.randint(1, 40)}" if rng.random() < 0.15 else name

    def _add_ranked_snippets(self, builder: ConversationBuilder) -> None:
        """Add a turn whose sources are snippets ranked by their overlap with the question, as the server gives them."""
        rng = self._rng
        for _ in range(8):
            page = self._page()
            at = rng.randrange(len(page.paragraphs))
            start, end = rng.choice(sentence_spans(page.paragraphs[at]) or [(0, 0)])
            sentence = page.paragraphs[at][start:end]
            is_usable = 20 <= len(sentence) <= _SNIPPET_CHARS
            question = generate_question(rng, sentence, self._idf) if is_usable else None
            if question is not None:
                self._add_snippet_turn(builder, PreparedTurn(question, sentence), page, at, start)
                return

    def _add_snippet_turn(
        self, builder: ConversationBuilder, turn: PreparedTurn, page: Page, paragraph: int, start: int
    ) -> None:
        sources = self._ranked_snippets(turn.question, page, paragraph, start)
        others = [each for each in sources if each.path != page.path]
        if others and self._rng.random() < self.refusal_share:
            builder.add_turn(others, turn._replace(sentence=None))
        else:
            builder.add_turn(sources, turn)

    def _ranked_snippets(self, question: str, page: Page, paragraph: int, start: int) -> list[Source]:
        """Return the snippet with the answer and up to nine others, mostly with the best overlap first."""
        rng, question_stems = self._rng, stems(question)
        text = page.paragraphs[paragraph]
        begin = start if rng.random() < 0.75 else max((s for s, _ in sentence_spans(text) if s < start), default=start)
        if start - begin > _SNIPPET_CHARS // 2:
            begin = start
        score = self._noisy_overlap(question_stems, text[start : start + _SNIPPET_CHARS])
        snippets = [(score, self._snippet(page, paragraph, begin))]
        for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 7, 9))):
            other = page if rng.random() < 0.5 else self._page()
            index = rng.randrange(len(other.paragraphs))
            if other is page and index == paragraph:
                continue
            text = other.paragraphs[index]
            scores = [(self._noisy_overlap(question_stems, text[a:b]), a) for a, b in sentence_spans(text)]
            score, at = max(scores, default=(0.0, 0))
            snippets.append((score, self._snippet(other, index, at)))
        if rng.random() < 0.3:
            rng.shuffle(snippets)
        else:
            snippets.sort(key=lambda each: -each[0])
        return [source for _, source in snippets]

    def _snippet(self, page: Page, paragraph: int, start: int) -> Source:
        return Source(self._label(page), truncate(page.paragraphs[paragraph], start, _SNIPPET_CHARS), page.path)

    def _noisy_overlap(self, question_stems: set[str], sentence: str) -> float:
        return self._idf.overlap(question_stems, stems(sentence)) * self._rng.uniform(0.5, 1.5)

    def _add_human_question(self, builder: ConversationBuilder) -> None:
        """Add a turn with a question that a person asked about a paper."""
        rng = self._rng
        human: HumanQuestion = rng.choice(self._questions)
        turn = PreparedTurn(human.question, human.page.paragraphs[human.paragraph][slice(*human.sentence)])
        if human.sentence[1] - human.sentence[0] <= _SNIPPET_CHARS and rng.random() < 0.4:
            self._add_snippet_turn(builder, turn, human.page, human.paragraph, human.sentence[0])
            return
        size = rng.choice((250, 400, 600, 800))
        is_refusal = rng.random() < self.refusal_share
        sources = [] if is_refusal else [self._source(human.page, size, human.paragraph, human.sentence[0])]
        for _ in range(rng.choice((0, 1, 2, 3, 4, 4, 4, 4, 7)) + is_refusal):
            page = human.page if rng.random() < 0.2 and not is_refusal else self._page()
            if human.answer not in (source := self._source(page, size)).text:
                sources.append(source)
        if not sources:
            return
        rng.shuffle(sources)
        builder.add_turn(sources, turn._replace(sentence=None) if is_refusal else turn)
