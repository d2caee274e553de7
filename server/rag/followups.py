"""What is searched for a turn: its question, and where that leans on what was said before, both together.

A question says by itself how much it leans on the conversation: it goes on with "and", it points back with "it", it has
hardly a word of its own. One that stands on its own is searched alone, so that a new subject does not drag the old one
along. No model is asked. Weights were chosen on the conversations in tests/eval (`scripts/eval/followups.py`).
"""

import re
from collections.abc import Sequence
from enum import Enum

from index.lexical.analyzer import function_words
from index.lexical.languages import DEFAULT, guess_latin
from index.types import Query
from models.llm.chat.messages import ChatMessage
from server.rag.prompts import NO_ANSWER
from server.rag.sentences import truncate

_MARKER = re.compile(r"\s?\[\d{1,4}\]")
_WORD = re.compile(r"[^\W_][\w.\-]*")
_LONGEST_ANSWER = 400  # characters of the last answer
_FEW_WORDS = 2  # of a question's own; with so few it hardly says what it is about
_SOME_WORDS = 3
_MOST_BEFORE = 2  # questions before that are taken in when the nearest leans on its own predecessor

# By language: how a turn begins that goes on with the last one, and words that point back to it.
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
    """How much a question leans on the conversation: weights of the question alone, and of both together."""

    NONE = 1.0, 0.0
    SOME = 1.0, 1.0
    MUCH = 0.3, 1.0


def search_queries(messages: Sequence[ChatMessage]) -> list[Query]:
    """For the last message, a user's: the question alone, and with what it leans on, the question before and its
    answer."""
    question = messages[-1].text
    alone, together = follow_up_dependence(question).value
    if not together or not (before := _before(messages[:-1])):
        return [Query(question)]
    return [Query(question, alone), Query(f"{before} {question}", together)]


def follow_up_dependence(question: str) -> FollowUpDependence:
    """Judged by its words alone."""
    words = [word.lower() for word in _WORD.findall(question)]
    num_own = len(words) - sum(word in function_words(set(words)) for word in words)
    language = guess_latin(set(words), least=1)
    if _goes_on(words, is_english=language == DEFAULT):
        return FollowUpDependence.MUCH
    points = not set(words).isdisjoint(_POINTING.get(language, "").split()) or bool(_POINTING_LAST.search(question))
    if points and num_own <= _SOME_WORDS:
        return FollowUpDependence.MUCH
    return FollowUpDependence.SOME if points or num_own <= _FEW_WORDS else FollowUpDependence.NONE


def _goes_on(words: Sequence[str], *, is_english: bool) -> bool:
    """Of the other languages any: so few words often do not tell which."""
    begins = {"_".join(words[:2]), *words[:1]}
    return any(
        not begins.isdisjoint(beginnings.split())
        for language, beginnings in _GOING_ON.items()
        if (language == DEFAULT) is is_english
    )


def _before(messages: Sequence[ChatMessage]) -> str:
    """The last question, with those before it that it leans on, and the beginning of its answer."""
    asked: list[str] = []
    for message in reversed(messages):
        if message.role == "user" and message.text.strip():
            asked.insert(0, message.text)
            if len(asked) == _MOST_BEFORE or follow_up_dependence(message.text) is not FollowUpDependence.MUCH:
                break
    answer = next((m.text for m in reversed(messages) if m.role == "assistant" and m.text.strip()), "")
    told = "" if NO_ANSWER in answer else truncate(_MARKER.sub("", answer), 0, _LONGEST_ANSWER)
    return " ".join(filter(None, (*asked, told)))
