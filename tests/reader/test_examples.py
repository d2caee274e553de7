"""Whatever is drawn, an answer can be checked against its sources."""

import re
from collections import Counter
from random import Random

import pytest
from reader.corpus import Corpus, Rarity
from reader.examples import HELLO, Examples, Message, manner
from reader.questions import keywords, question

from server.rag.prompts import NO_ANSWER
from server.rag.sentences import sentences


@pytest.fixture(params=(0.0, 0.3, 1.0))
def conversations(corpus: Corpus, request: pytest.FixtureRequest) -> list[list[Message]]:
    examples = Examples(corpus, 5)
    examples.level = request.param
    return [examples.next() for _ in range(150)]


def test_quotes_stand_where_they_are_said_to(conversations: list[list[Message]]) -> None:
    for messages in conversations:
        for message in messages:
            for quote in message.quotes:
                said, source = message.text[quote.start : quote.end], messages[quote.message].text
                assert source[quote.source : quote.source + len(said)] == said
                assert quote.last < len(source)


def test_every_answer_quotes_with_numbers_that_its_sources_have_or_refuses(
    conversations: list[list[Message]],
) -> None:
    for messages in conversations:
        told = ""
        for message in messages:
            if message.role != "assistant":
                told += message.text + "\n"
            elif message.text not in {NO_ANSWER, HELLO}:
                numbers = re.findall(r"\[(\d+)\]", message.text)
                assert numbers and all(re.search(rf"^\[{n}\] ", told, re.MULTILINE) for n in numbers)


def test_numbers_go_on_over_the_turns(conversations: list[list[Message]]) -> None:
    for messages in conversations:
        told = "\n".join(m.text for m in messages if m.role == "user")
        numbers = [int(n) for n in re.findall(r"^\[(\d+)\] ", told, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_sentences_are_marked_as_the_product_cuts_them(conversations: list[list[Message]]) -> None:
    for messages in conversations:
        for message in messages:
            for sentence in message.sentences:
                assert message.text[sentence.start : sentence.end] in sentences(message.text[sentence.start :])
                assert message.text[sentence.number].isdigit()


def test_every_manner_of_answer_is_shown(corpus: Corpus) -> None:
    examples, seen = Examples(corpus, 1), Counter[str]()
    for _ in range(600):
        for message in examples.next():
            if message.role == "assistant":
                seen[manner(message.text)] += 1
    assert all(seen[kind] for kind in ("quote", "refusal", "greeting", "list", "yes", "no", "which", "fact")), seen


def test_the_same_seed_gives_the_same(corpus: Corpus) -> None:
    first, second = Examples(corpus, 3), Examples(corpus, 3)

    assert [first.next() for _ in range(20)] == [second.next() for _ in range(20)]


def test_questions_come_from_words_of_the_sentence(corpus: Corpus) -> None:
    rarity, rng = Rarity(corpus.pages), Random(2)
    sentence = "The harbour master closes the northern gate because storms are near."

    asked = {question(rng, sentence, rarity) for _ in range(200)}

    assert len(asked) > 100
    assert any(each and each.startswith("Why ") for each in asked)
    assert keywords(rng, "It is.", rarity) is None
