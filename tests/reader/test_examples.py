"""The answers of generated conversations can be checked against their sources."""

import re
from collections import Counter
from random import Random

import pytest
from reader.conversation import GREETING, Message, answer_kind
from reader.corpus import Corpus, IdfWeights
from reader.examples import Examples
from reader.questions import generate_question, keyword_question

from server.rag.prompts import NO_ANSWER
from server.rag.sentences import sentences


@pytest.fixture(params=(0.0, 0.3, 1.0))
def conversations(corpus: Corpus, request: pytest.FixtureRequest) -> list[list[Message]]:
    examples = Examples(corpus, 5)
    examples.difficulty = request.param
    return [examples.next() for _ in range(150)]


def test_each_quote_stands_at_its_position_in_the_source(conversations: list[list[Message]]) -> None:
    for messages in conversations:
        for message in messages:
            for quote in message.quotes:
                text, source = message.text[quote.start : quote.end], messages[quote.message].text
                assert source[quote.source : quote.source + len(text)] == text
                assert quote.last < len(source)


def test_every_answer_cites_existing_sources_or_refuses(
    conversations: list[list[Message]],
) -> None:
    for messages in conversations:
        user_text = ""
        for message in messages:
            if message.role != "assistant":
                user_text += message.text + "\n"
            elif message.text not in {NO_ANSWER, GREETING}:
                numbers = re.findall(r"\[(\d+)\]", message.text)
                assert numbers and all(re.search(rf"^\[{n}\] ", user_text, re.MULTILINE) for n in numbers)


def test_source_numbers_continue_over_the_turns(conversations: list[list[Message]]) -> None:
    for messages in conversations:
        user_text = "\n".join(m.text for m in messages if m.role == "user")
        numbers = [int(n) for n in re.findall(r"^\[(\d+)\] ", user_text, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_annotated_sentences_are_the_sentences_of_the_server(conversations: list[list[Message]]) -> None:
    for messages in conversations:
        for message in messages:
            for sentence in message.sentences:
                assert message.text[sentence.start : sentence.end] in sentences(message.text[sentence.start :])
                assert message.text[sentence.number].isdigit()


def test_every_kind_of_answer_is_generated(corpus: Corpus) -> None:
    examples, counts = Examples(corpus, 1), Counter[str]()
    for _ in range(600):
        for message in examples.next():
            if message.role == "assistant":
                counts[answer_kind(message.text)] += 1
    kinds = ("quote", "refusal", "greeting", "list", "yes", "no", "sources", "number")
    assert all(counts[kind] for kind in kinds), counts


def test_the_same_seed_gives_the_same_conversations(corpus: Corpus) -> None:
    first, second = Examples(corpus, 3), Examples(corpus, 3)

    assert [first.next() for _ in range(20)] == [second.next() for _ in range(20)]


def test_many_questions_are_generated_from_one_sentence_and_none_without_content_words(corpus: Corpus) -> None:
    idf, rng = IdfWeights(corpus.pages), Random(2)
    sentence = "The harbour master closes the northern gate because storms are near."

    questions = {generate_question(rng, sentence, idf) for _ in range(200)}

    assert len(questions) > 100
    assert any(each and each.startswith("Why ") for each in questions)
    assert keyword_question(rng, "It is.", idf) is None
