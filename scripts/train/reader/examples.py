"""Conversations to learn from: numbered sources, questions about them, and the answers that are wanted."""

import re
import string
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from reader.corpus import Asked, Corpus, Page, Rarity, spans, stem, stems, words
from reader.questions import inflected, keywords, question
from server.rag.prompts import NO_ANSWER, SYSTEM
from server.rag.sentences import truncate

HELLO = "I answer from the indexed documents. Ask me about something they contain."
_CHAT = (
    "hello", "hi", "hi there", "Hello!", "how are you?", "who are you?", "what can you do?", "thanks", "thank you",
    "good morning", "write a poem", "tell me a joke", "ok", "help", "What is the meaning of life?", "test", "hey",
    "are you there?", "what model are you?", "Write a haiku about the sea", "can you help me?", "bye", "Say hello.",
    "Count to five", "2+2?", "list three colors", "What are you?", "Who made you?",
)  # fmt: skip
_SYSTEMS = (
    SYSTEM, SYSTEM, SYSTEM, SYSTEM, "Answer from the sources and cite them like [1].", "You are a helpful assistant.",
    "Use the numbered sources to answer. If they do not contain the answer, say so.",
    f"You are a helpful assistant.\n\n{SYSTEM}", f"Be brief.\n\n{SYSTEM}", "",
)  # fmt: skip
_CLEAR = 1.2  # how much more of the question the right sentence must hold than any other
_MOST = (1_200, 3_000, 4_800, 4_800)  # characters of sources in a conversation, one of these
_MOST_SOURCES = 12
LEADING = "Question: "
_BRIEF = 300  # characters of a source as the product gives it to a small model
_NUMBER = re.compile(r"\b\d[\d,.]*\d?(?: [a-z]{3,12})?\b")
_NEGATION = re.compile(r" (?:not|never|cannot)\b")
_AUXILIARY = re.compile(
    r"^(?P<a>[^,;:()]{3,60}?) (?P<be>is|are|was|were|can|must|should|may|will|has) (?P<b>.{8,})[.]$"
)

_MANNERS = {
    "refusal": re.compile(re.escape(NO_ANSWER)),
    "greeting": re.compile(re.escape(HELLO)),
    "list": re.compile("- "),
    "yes": re.compile(r"Yes\. "),
    "no": re.compile(r"No\. "),
    "which": re.compile(r"\[\d+\](?:(?:, | and )\[\d+\])*$"),
    "fact": re.compile(r"\d[\d.,]*(?: [a-z]+)?\. "),
}


class Quote(NamedTuple):
    """`text[start:end]` of an answer stands at `source` in message `message`; `last` is where its sentence ends."""

    start: int
    end: int
    message: int
    source: int
    last: int


class Sentence(NamedTuple):
    """Of a source, in its message; `number`: where the source's number stands."""

    start: int
    end: int
    number: int


class Message(NamedTuple):
    """`lead` stands before `text`, in which all places are counted: the question, which comes again after the
    sources. Of the lead, the question is all but `len(LEADING)` at its beginning."""

    role: str
    text: str
    sentences: Sequence[Sentence] = ()
    question: tuple[int, int] = (0, 0)
    quotes: Sequence[Quote] = ()
    refuses: bool = False
    lead: str = ""


def manner(answer: str) -> str:
    """How an answer is put together."""
    return next((name for name, pattern in _MANNERS.items() if pattern.match(answer)), "quote")


class Source(NamedTuple):
    label: str
    text: str
    path: str


class _Place(NamedTuple):
    """A sentence of the conversation's sources."""

    message: int
    sentence: Sentence
    text: str
    stems: set[str]
    number: int  # its source's


class _Answer:
    """Written piece by piece; remembers what of it is a quote."""

    def __init__(self) -> None:
        self.text, self.quotes = "", list[Quote]()

    def say(self, text: str) -> "_Answer":
        self.text += text
        return self

    def quote(self, place: _Place, start: int = 0, end: int | None = None) -> "_Answer":
        text = place.text[start:end]
        at = place.sentence.start + start
        self.quotes.append(Quote(len(self.text), len(self.text) + len(text), place.message, at, place.sentence.end - 1))
        return self.say(text)

    def cite(self, place: _Place) -> "_Answer":
        self.say(" [")
        begin, number = len(self.text), str(place.number)
        last = place.sentence.end - 1
        self.quotes.append(Quote(begin, begin + len(number), place.message, place.sentence.number, last))
        return self.say(f"{number}]")


class Examples:
    """Endless conversations. `level` from 0 (copy from one short passage) to 1 (everything); `refusing`: of how many
    questions the sources are without the answer."""

    def __init__(self, corpus: Corpus, seed: int, rarity: Rarity | None = None, *, held_out: bool = False) -> None:
        self._rng = Random(seed)
        self._rarity = rarity or Rarity(corpus.pages)
        self._pages = corpus.held_pages if held_out else corpus.pages
        self._asked = corpus.held_asked if held_out else corpus.asked
        self._papers = list({each.page.path: each.page for each in self._asked}.values())
        self.level, self.refusing = 1.0, 0.1
        self._most = _MOST[0]

    def next(self) -> list[Message]:
        rng = self._rng
        if rng.random() < 0.02:
            return self._greeting()
        talk = _Talk(rng, self._rarity)
        self._most = round(rng.choice(_MOST) * min(1.0, 0.2 + self.level))
        num_turns = rng.choice((1, 1, 1, 2))
        if self._asked and self.level > 0.3 and rng.random() < 0.25:
            self._ask_as_people_do(talk)
        elif self.level > 0.3 and rng.random() < 0.4:
            self._ask_what_is_found(talk)
        else:
            talk.tell(self._sources(num_turns), self._made(talk))
        while len(talk.messages) < 14 and talk.size < self._most and rng.random() < 0.8:
            if self.level > 0.3 and rng.random() < 0.4:
                self._ask_what_is_found(talk)
            elif rng.random() < 0.8 or not talk.has_sources:
                talk.tell(self._sources(2), self._made(talk))
            else:
                talk.tell([], self._made(talk))
        return talk.messages

    def _greeting(self) -> list[Message]:
        rng = self._rng
        asked = rng.choice(_CHAT)
        if rng.random() < 0.3:
            page = rng.choice(self._pages)
            asked = keywords(rng, rng.choice(page.paragraphs), self._rarity) or asked
        system = rng.choice(_SYSTEMS)
        start = [Message("system", system)] if system else []
        return [*start, Message("user", asked), Message("assistant", HELLO)]

    def _made(self, talk: "_Talk") -> "_Asking":
        """How the next question is to be made."""
        return _Asking(self.level, self.refusing, self._stranger)

    def _stranger(self) -> str:
        page = self._rng.choice(self._pages)
        return self._rng.choice(page.paragraphs)

    def _page(self) -> Page:
        rng = self._rng
        return rng.choice(self._papers) if self._papers and rng.random() < 0.25 else rng.choice(self._pages)

    def _sources(self, num_turns: int) -> list[Source]:
        rng, level = self._rng, self.level
        if level < 0.15:
            count, size = rng.choice((1, 1, 2)), rng.choice((90, 160, 260))
        elif level < 0.35:
            count, size = rng.choice((1, 2, 2, 3)), rng.choice((120, 200, 350))
        else:
            count, size = rng.choice((1, 2, 3, 4, 5, 5, 6)), rng.choice((150, 250, 350, 500, 800, 800))
        if num_turns > 1:
            count = min(count, 3)
        count = min(count, max(1, self._most // size // num_turns))
        first, sources, room = self._page(), list[Source](), self._most / num_turns * rng.uniform(0.5, 1)
        while len(sources) < count or (level > 0.35 and room > 0 and len(sources) < _MOST_SOURCES):
            sources.append(self._source(first if rng.random() < 0.4 else self._page(), size))
            room -= len(sources[-1].text)
        return sources

    def _source(self, page: Page, size: int, paragraph: int | None = None, around: int = 0) -> Source:
        """A piece of a page, cut at sentences, about `size` characters, with what stands at `around` in it."""
        rng = self._rng
        at = rng.randrange(len(page.paragraphs)) if paragraph is None else paragraph
        text = page.paragraphs[at]
        found = spans(text)
        if len(text) > size * 1.3 and len(found) > 1:
            inside = around if paragraph is not None else rng.randrange(len(text))
            start = max((i for i, s in enumerate(found) if s[0] <= inside), default=0)
            first = start
            while first > 0 and found[start][1] - found[first - 1][0] < size and rng.random() < 0.6:
                first -= 1
            last = start
            while last + 1 < len(found) and found[last + 1][1] - found[first][0] < size:
                last += 1
            text = text[found[first][0] : found[last][1]]
        elif paragraph is None:
            while at + 1 < len(page.paragraphs) and len(text) + len(page.paragraphs[at + 1]) < size:
                at += 1
                text += "\n" + page.paragraphs[at]
        text = text[: max(400, self._most // 2)]
        if paragraph is None and rng.random() < 0.12:
            text = self._strange(text)
        return Source(self._label(page), text.strip(), page.path)

    def _strange(self, text: str) -> str:
        """With made-up words and names among it, so that copying does not lean on what is familiar."""
        rng = self._rng

        def other(match: re.Match[str]) -> str:
            if rng.random() > 0.3:
                return match[0]
            made = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 9)))
            return made.capitalize() if match[0][0].isupper() else made

        return re.sub(r"\b[^\W\d_]{4,}\b", other, text)

    def _label(self, page: Page) -> str:
        rng = self._rng
        named = page.path if rng.random() < 0.5 else page.path.rsplit("/", 1)[-1]
        if rng.random() < 0.4:
            heading = " ".join(words(rng.choice(page.paragraphs))[: rng.randint(1, 3)]).capitalize()
            return f"{named} › {heading}" if heading else named
        return f"{named} › p. {rng.randint(1, 40)}" if rng.random() < 0.15 else named

    def _ask_what_is_found(self, talk: "_Talk") -> None:
        """With sources as the product gives them: each begun at the sentence that is most like the question, the
        likeliest first; which is right more often than not."""
        rng = self._rng
        for _ in range(8):
            page = self._page()
            at = rng.randrange(len(page.paragraphs))
            start, end = rng.choice(spans(page.paragraphs[at]) or [(0, 0)])
            sentence = page.paragraphs[at][start:end]
            asked = question(rng, sentence, self._rarity) if 20 <= len(sentence) <= _BRIEF else None
            if asked is not None:
                self._tell_found(talk, _Given(asked, sentence), page, at, start)
                return

    def _tell_found(self, talk: "_Talk", given: "_Given", page: Page, paragraph: int, start: int) -> None:
        sources = self._found(given.question, page, paragraph, start)
        others = [each for each in sources if each.path != page.path]
        if others and self._rng.random() < self.refusing:
            talk.tell(others, given._replace(sentence=None))
        else:
            talk.tell(sources, given)

    def _found(self, asked: str, page: Page, paragraph: int, start: int) -> list[Source]:
        rng, wanted = self._rng, stems(asked)
        text = page.paragraphs[paragraph]
        begin = start if rng.random() < 0.75 else max((s for s, _ in spans(text) if s < start), default=start)
        if start - begin > _BRIEF // 2:
            begin = start
        right = text[start : start + _BRIEF]
        sources = [(self._likeness(wanted, right), Source(self._label(page), truncate(text, begin, _BRIEF), page.path))]
        for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 7, 9))):
            other = page if rng.random() < 0.5 else self._page()
            index = rng.randrange(len(other.paragraphs))
            if other is page and index == paragraph:
                continue
            likeness, at = (
                max(
                    (self._likeness(wanted, other.paragraphs[index][a:b]), a) for a, b in spans(other.paragraphs[index])
                )
                if spans(other.paragraphs[index])
                else (0.0, 0)
            )
            sources.append(
                (likeness, Source(self._label(other), truncate(other.paragraphs[index], at, _BRIEF), other.path))
            )
        if rng.random() < 0.3:
            rng.shuffle(sources)
        else:
            sources.sort(key=lambda each: -each[0])
        return [source for _, source in sources]

    def _likeness(self, wanted: set[str], sentence: str) -> float:
        return self._rarity.shared(wanted, stems(sentence)) * self._rng.uniform(0.5, 1.5)

    def _ask_as_people_do(self, talk: "_Talk") -> None:
        rng = self._rng
        asked: Asked = rng.choice(self._asked)
        given = _Given(asked.question, asked.page.paragraphs[asked.paragraph][slice(*asked.sentence)])
        if asked.sentence[1] - asked.sentence[0] <= _BRIEF and rng.random() < 0.4:
            self._tell_found(talk, given, asked.page, asked.paragraph, asked.sentence[0])
            return
        size = rng.choice((250, 400, 600, 800))
        refused = rng.random() < self.refusing
        sources = [] if refused else [self._source(asked.page, size, asked.paragraph, asked.sentence[0])]
        for _ in range(rng.choice((0, 1, 2, 3, 4, 4, 4, 4, 7)) + refused):
            page = asked.page if rng.random() < 0.2 and not refused else self._page()
            if asked.answer not in (other := self._source(page, size)).text:
                sources.append(other)
        if not sources:
            return
        rng.shuffle(sources)
        talk.tell(sources, given._replace(sentence=None) if refused else given)


class _Asking(NamedTuple):
    level: float
    refusing: float
    stranger: Callable[[], str]  # gives a text from elsewhere


class _Given(NamedTuple):
    """A question and the sentence that answers it; none if the sources that are told with it lack it."""

    question: str
    sentence: str | None


class _Talk:
    """A conversation as it grows."""

    def __init__(self, rng: Random, rarity: Rarity) -> None:
        self._rng, self._rarity = rng, rarity
        system = rng.choice(_SYSTEMS)
        self.messages = [Message("system", system)] if system else []
        self._places: list[_Place] = []
        self._fresh: list[_Place] = []
        self._number = 0
        self.size = 0

    @property
    def has_sources(self) -> bool:
        return bool(self._places)

    def tell(self, sources: Sequence[Source], asking: "_Asking | _Given") -> None:
        """A turn with these sources in front of its question, and its answer."""
        text, sentences = "", list[Sentence]()
        at, fresh = len(self.messages), []
        for source in sources:
            self._number += 1
            number_at = len(text) + 1
            text += f"[{self._number}] {source.label}\n"
            for start, end in spans(source.text):
                sentence = Sentence(len(text) + start, len(text) + end, number_at)
                sentences.append(sentence)
                said = source.text[start:end]
                fresh.append(_Place(at, sentence, said, stems(said), self._number))
            text += f"{source.text}\n\n"
        self._places += fresh
        if sources:
            self._fresh = fresh
        asked, answer = self._exchange(asking)
        begin = len(text) + len(LEADING)
        text += f"{LEADING}{asked}"
        lead = f"{LEADING}{asked}\n\n" if sources else ""
        self.size += len(text) + len(answer.text)
        self.messages.append(Message("user", text, sentences, (begin, len(text)), lead=lead))
        self.messages.append(Message("assistant", answer.text, quotes=answer.quotes, refuses=answer.text == NO_ANSWER))

    def _exchange(self, asking: "_Asking | _Given") -> tuple[str, _Answer]:
        rng = self._rng
        if isinstance(asking, _Given):
            if asking.sentence is None:
                return asking.question, _Answer().say(NO_ANSWER)
            place = next((p for p in self._places if p.text == asking.sentence), None)
            return (asking.question, _Answer().quote(place).cite(place)) if place else self._one()
        if rng.random() < asking.refusing and (strange := self._unanswerable(asking)):
            return strange, _Answer().say(NO_ANSWER)
        if asking.level < 0.35 and rng.random() < 0.8 - 2 * asking.level:
            place = rng.choice(self._fresh or self._places)
            return self._part(place.text), _Answer().quote(place).cite(place)
        if asking.level > 0.5 and rng.random() < 0.25:
            kinds = (self._which, self._yes_or_no, self._fact, self._fact, self._list)
            if made := rng.choice(kinds)():
                return made
        return self._one()

    def _part(self, sentence: str) -> str:
        """A sentence's own words, as the first lesson."""
        rng, parts = self._rng, sentence.split()
        if rng.random() < 0.5:
            return sentence
        at = rng.randrange(len(parts))
        return " ".join(parts[at : at + rng.randint(3, 12)])

    def _one(self) -> tuple[str, _Answer]:
        for _ in range(12):
            place = self._rng.choice(self._fresh if self._rng.random() < 0.8 else self._places)
            asked = question(self._rng, place.text, self._rarity)
            if asked and len(place.text) >= 20 and self._is_clear(asked, place):
                return asked, _Answer().quote(place).cite(place)
        place = self._rng.choice(self._places)
        return self._part(place.text), _Answer().quote(place).cite(place)

    def _is_clear(self, asked: str, place: _Place) -> bool:
        """Whether no other sentence shares nearly as much with the question."""
        wanted = stems(asked)
        right = self._rarity.shared(wanted, place.stems)
        others = (self._rarity.shared(wanted, p.stems) for p in self._places if p.text != place.text)
        return right > 0 and right >= _CLEAR * max(others, default=0.0)

    def _unanswerable(self, asking: _Asking) -> str | None:
        for _ in range(6):
            elsewhere = asking.stranger()
            found = spans(elsewhere)
            if not found:
                continue
            start, end = self._rng.choice(found)
            asked = question(self._rng, elsewhere[start:end], self._rarity)
            if not asked or not (wanted := stems(asked)):
                continue
            total = sum(self._rarity.of(each) for each in wanted)
            best = max((self._rarity.shared(wanted, p.stems) for p in self._places), default=0.0)
            if best < 0.25 * total:
                return asked
        return None

    def _which(self) -> tuple[str, _Answer] | None:
        place = self._rng.choice(self._places)
        telling = sorted(words(place.text), key=lambda word: -self._rarity.of(stem(word)))[:6]
        if not telling:
            return None
        word = self._rng.choice(telling)
        having: dict[int, _Place] = {}
        for each in self._places:
            if re.search(rf"\b{re.escape(word)}\b", each.text, re.IGNORECASE):
                having.setdefault(each.number, each)
        if not 1 <= len(having) <= 4:
            return None
        answer = _Answer()
        for i, each in enumerate(having.values()):
            answer.say("" if i == 0 else " and" if i == len(having) - 1 else ",").cite(each)
        answer.text, lead = answer.text[1:], 1
        answer.quotes = [q._replace(start=q.start - lead, end=q.end - lead) for q in answer.quotes]
        asked = self._rng.choice(
            ("Which sources mention {}?", "which sources mention {}", "Which documents talk about {}?")
        )
        return asked.format(word), answer

    def _yes_or_no(self) -> tuple[str, _Answer] | None:
        rng = self._rng
        found = [(p, m) for p in self._fresh if (m := _AUXILIARY.match(p.text))]
        if not found:
            return None
        place, match = rng.choice(found)
        rest, says = match["b"], "Yes"
        if _NEGATION.search(" " + rest):
            rest, says = _NEGATION.sub("", " " + rest, count=1).strip(), "No"
        elif rng.random() < 0.3 and (number := re.search(r"\b\d+\b", rest)):
            rest = rest[: number.start()] + str(int(number[0]) + rng.randint(1, 9)) + rest[number.end() :]
            says = "No"
        subject = (
            match["a"]
            if match["a"].split()[0].lower() not in {"the", "a", "an", "this"}
            else match["a"][:1].lower() + match["a"][1:]
        )
        asked = f"{match['be'].capitalize()} {subject} {rest}?"
        if not self._is_clear(asked, place):
            return None
        return asked, _Answer().say(f"{says}. ").quote(place).cite(place)

    def _fact(self) -> tuple[str, _Answer] | None:
        """A number that is asked for: it first, then the sentence."""
        rng = self._rng
        found = [(p, m) for p in self._fresh if len(m := list(_NUMBER.finditer(p.text))) == 1]
        if not found:
            return None
        place, (number,) = rng.choice(found)
        unit = number[0].split()[1:]
        others = [w for w in words(place.text) if w not in number[0]]
        if len(others) < 2:
            return None
        picked = sorted(rng.sample(range(len(others)), min(len(others), rng.randint(2, 5))))
        rest = " ".join(inflected(rng, others[i]) for i in picked)
        asked = f"How many {unit[0]} {rest}?" if unit else f"{rng.choice(('What number', 'How much'))} {rest}?"
        if not self._is_clear(asked, place):
            return None
        return asked, _Answer().quote(place, *number.span()).say(". ").quote(place).cite(place)

    def _list(self) -> tuple[str, _Answer] | None:
        """Everything that is said about a word."""
        rng = self._rng
        place = rng.choice(self._fresh)
        for word in rng.sample(words(place.text), min(5, len(words(place.text)))):
            having = [p for p in self._fresh if stem(word) in p.stems]
            if 2 <= len(having) <= 3:
                answer = _Answer()
                for i, each in enumerate(having):
                    answer.say("\n- " if i else "- ").quote(each).cite(each)
                return rng.choice(
                    ("List everything about {}.", "list what is said about {}", "List all about {}")
                ).format(word), answer
        return None
