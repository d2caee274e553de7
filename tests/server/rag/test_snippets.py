"""Choosing the part of a passage that answers a question best."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from index.types import Vectors
from server.rag.snippets import SnippetSelector


async def embed_words(texts: Sequence[str]) -> Vectors:
    """Return unit vectors over three words: texts are near when they share them."""
    rows = [[text.lower().count(word) + 0.01 for word in ("leave", "train", "soup")] for text in texts]
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_snippet_begins_at_the_sentence_that_answers_best() -> None:
    texts = ["Trains come first. Leave is sixteen weeks. Soup is on Thursday.", "Soup is warm today.", "| --- |"]
    snippets = asyncio.run(SnippetSelector().select("how long is leave", texts, 30, embed_words))
    assert [snippet.text for snippet in snippets] == ["Leave is sixteen weeks.", "Soup is warm today.", ""]
    assert snippets[0].similarity > 0.9 > snippets[1].similarity > snippets[2].similarity == -1
    assert snippets[0].answer_score > 1 > snippets[1].answer_score > snippets[2].answer_score == -1


def test_a_snippet_of_a_table_is_one_row() -> None:
    rows = ["| train | Monday. Early. |", "| leave | Sixteen weeks. Paid. |", "| soup | Thursday |"]
    table = "\n".join(["| what | when |", "| --- | --- |", *rows])
    (snippet,) = asyncio.run(SnippetSelector().select("how long is leave", [table], 300, embed_words))
    assert snippet.text == rows[1]


def test_common_words_decide_between_sentences_of_like_meaning() -> None:
    texts = ["Leave is granted by the board. Leave of fathers ends after ten weeks. Leave is a right."]
    (snippet,) = asyncio.run(SnippetSelector().select("When does the leave of a father end?", texts, 30, embed_words))
    assert snippet.text == "Leave of fathers ends after ten weeks."


@pytest.mark.parametrize(("limit", "max_chars"), [(30, 38), (20, 38), (14, 28), (60, 53)])
def test_the_first_sentence_of_a_snippet_is_whole_up_to_twice_the_limit(limit: int, max_chars: int) -> None:
    text = "Leave of fathers ends after ten weeks. So it is said."
    (snippet,) = asyncio.run(SnippetSelector().select("leave of fathers", [text], limit, embed_words))
    assert len(snippet.text) <= max_chars and len(snippet.text) > max_chars - 6 and text.startswith(snippet.text)


def test_word_shares_count_rare_words_more_and_every_form_of_a_word() -> None:
    sentences = ["The pump is cleaned.", "The pump is old.", "Filters of the pump are cleaned monthly.", "Who knows?"]
    word_shares = SnippetSelector().word_shares("How often do I clean the filter of the pump?", sentences)
    assert word_shares[2] > word_shares[0] > word_shares[1] > word_shares[3] == 0
    assert word_shares[2] <= 1
    assert SnippetSelector().word_shares("?", sentences) == [0, 0, 0, 0]
    assert SnippetSelector().word_shares("anything", []) == []
