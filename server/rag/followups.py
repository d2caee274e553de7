"""Search queries for the last question of a conversation, which may be a follow-up of what was said before.

The words of a question tell how much it depends on the conversation: it goes on with "and", it points back with "it",
or it has hardly a content word of its own. An independent question is searched alone, so that a new subject does not
drag the old one along. No model is used. The weights were chosen on the conversations in tests/eval
(`scripts/eval/followups.py`).
"""

import re
from collections.abc import Sequence
from enum import Enum

from index.lexical.analyzer import function_words
from index.lexical.languages import DEFAULT, guess_latin
from index.types import Query
from models.llm.chat.messages import ChatMessage
from server.rag.citations import without_markers
from server.rag.prompts import NO_ANSWER
from server.rag.sentences import truncate

_WORD = re.compile(r"[^\W_][\w.\-]*")
_MAX_ANSWER_CHARS = 400  # of the last answer, in a query
_FEW_WORDS = 2  # content words; with so few a question hardly says what it is about
_SOME_WORDS = 3  # content words; with so few a question that points back depends on what came before
_MAX_EARLIER_QUESTIONS = 2  # in a query, where the nearest one is itself a follow-up

# By language: words that begin a continuation of the last turn, and words that point back to it.
_GOING_ON = {
    "english": "and or but also so then even with without what_about how_about",
    "german": "und oder aber auch dann sogar mit ohne",
    "french": "et ou mais aussi alors même avec sans",
    "spanish": "y o pero también entonces incluso con sin",
    "portuguese": "e ou mas também então mesmo com sem",
    "italian": "e o ma anche allora perfino con senza",
    "dutch": "en of maar ook dan zelfs met zonder",
}
_POINTING = {
    "english": "it its they them their those these this",
    "german": "er ihn ihm dessen deren davon dafür dazu damit dort dieser dieses",
    "french": "celui celle ceux celles cela ça lui leur",
    "spanish": "eso esto ese esa ello ellos ellas aquello",
    "portuguese": "isso isto esse essa ele ela eles elas",
    "italian": "questo quello quelli ciò esso essa essi",
    "dutch": "ervan daarvan hiervan deze hem hen hun",
}
_POINTING_LAST = re.compile(r"\b(?:that|one|ones)\W*\Z|\b(?:than|of|for|with|to|does|is|do) that\b", re.IGNORECASE)


class FollowUpDependence(Enum):
    """Degrees of dependence on the conversation, as the weights of two queries: of the question alone, and
    of the question with the text before it."""

    NONE = 1.0, 0.0
    SOME = 1.0, 1.0
    MUCH = 0.3, 1.0


def search_queries(messages: Sequence[ChatMessage]) -> list[Query]:
    """Return the queries for the last message, which is a user's.

    The first is the question alone; a follow-up has a second one, with the question before and its answer.
    """
    question = messages[-1].text
    alone, together = follow_up_dependence(question).value
    if not together or not (before := _text_before(messages[:-1])):
        return [Query(question)]
    return [Query(question, alone), Query(f"{before} {question}", together)]


def follow_up_dependence(question: str) -> FollowUpDependence:
    """Classify a question by its words alone."""
    words = [word.lower() for word in _WORD.findall(question)]
    num_content = len(words) - sum(word in function_words(set(words)) for word in words)
    language = guess_latin(set(words), least=1)
    if _continues(words, is_english=language == DEFAULT):
        return FollowUpDependence.MUCH
    points = not set(words).isdisjoint(_POINTING.get(language, "").split()) or bool(_POINTING_LAST.search(question))
    if points and num_content <= _SOME_WORDS:
        return FollowUpDependence.MUCH
    return FollowUpDependence.SOME if points or num_content <= _FEW_WORDS else FollowUpDependence.NONE


def _continues(words: Sequence[str], *, is_english: bool) -> bool:
    """Return whether a question begins like a continuation in English, else in any of the other languages: so few
    words often do not tell which."""
    begins = {"_".join(words[:2]), *words[:1]}
    return any(
        not begins.isdisjoint(beginnings.split())
        for language, beginnings in _GOING_ON.items()
        if (language == DEFAULT) is is_english
    )


def _text_before(messages: Sequence[ChatMessage]) -> str:
    """Return the last question, with the one before where it is a follow-up, and the beginning of the last answer."""
    questions: list[str] = []
    for message in reversed(messages):
        if message.role == "user" and message.text.strip():
            questions.insert(0, message.text)
            if (
                len(questions) == _MAX_EARLIER_QUESTIONS
                or follow_up_dependence(message.text) is not FollowUpDependence.MUCH
            ):
                break
    answer = next((m.text for m in reversed(messages) if m.role == "assistant" and m.text.strip()), "")
    beginning = "" if NO_ANSWER in answer else truncate(without_markers(answer), 0, _MAX_ANSWER_CHARS)
    return " ".join(filter(None, (*questions, beginning)))
