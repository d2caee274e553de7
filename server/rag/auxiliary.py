"""Recognizes auxiliary requests, which a client makes by itself: for a title, tags, follow-up questions or a summary.

They come by the same route as a person's questions, and are recognized by the words that clients begin them with, or
by the parts of such prompts. A person who asks about titles or summaries writes differently.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from models.llm.chat.messages import ChatMessage

_SPACE = re.compile(r"\s+")


class AuxiliaryPattern(NamedTuple):
    """The words of one kind of request, in lower case with single spaces.

    All of `parts` are in the message; with `leads`, the message begins with the first.
    """

    purpose: str
    parts: tuple[str, ...]
    leads: bool = True


_IN_LAST_MESSAGE = (
    AuxiliaryPattern(
        "Open WebUI: title, tags, follow-ups, queries, image prompt", ("### task:", "### chat history: <chat_history>")
    ),
    AuxiliaryPattern("Open WebUI: completing what is typed", ("### task:", "autocompletion system")),
    AuxiliaryPattern("Open WebUI: title, before 0.5", ("here is the query:", "as a title for the previous query")),
    AuxiliaryPattern("Open WebUI: title, before 0.6", ("create a concise, 3-5 word title", "as a title for the")),
    AuxiliaryPattern("Open WebUI: whether to search, before 0.5", ("assess the need for a web search based on the",)),
    AuxiliaryPattern(
        "Open WebUI: whether to search, before 0.6", ("based on the chat history, determine whether a search",)
    ),
    AuxiliaryPattern("Open WebUI: an emoji for a message", ("your task is to reflect the speaker", "emoji")),
    AuxiliaryPattern("Open WebUI: several answers made one", ("you have been provided with a set of responses from",)),
    AuxiliaryPattern("Continue: title, description", ("given the following... please reply with a",)),
    AuxiliaryPattern("Continue: compaction", ("create a comprehensive summary of this conversation",)),
    AuxiliaryPattern("LibreChat: title", ("provide a concise, 5-word-or-less title",)),
    AuxiliaryPattern(
        "LibreChat: title and its language", ("analyze this conversation and provide", "detected language")
    ),
    AuxiliaryPattern(
        "LibreChat: title of an assistant's thread", ("please generate a concise title", "that starts with")
    ),
    AuxiliaryPattern("LibreChat: summary", ("summarize the conversation by integrating new lines",)),
    AuxiliaryPattern("Zed: title", ("generate a concise 3-7 word title",)),
    AuxiliaryPattern("Zed: summary", ("generate a detailed summary of this conversation. include",)),
    AuxiliaryPattern("Cline: compaction", ('<explicit_instructions type="condense"',), leads=False),
    AuxiliaryPattern("Roo: compaction", ("summarize the conversation so far, as described in",)),
    AuxiliaryPattern(
        "several coding clients: compaction", ("your task is to create a detailed summary of the conversation so",)
    ),
    AuxiliaryPattern("Chatbox: title", ("based on the chat history, give this conversation a name",)),
    AuxiliaryPattern("NextChat: title", ("please generate a four to five word title",)),
    AuxiliaryPattern("NextChat: summary", ("in 200 words or less to use as a prompt for future context",), leads=False),
)
_IN_SYSTEM_MESSAGE = (
    AuxiliaryPattern("Copilot: title", ("you are an expert in crafting pithy titles",)),
    AuxiliaryPattern("opencode: title", ("you are a title generator",)),
    AuxiliaryPattern(
        "Cherry Studio, LobeChat: title", ("you are an assistant", "the user's conversation into a title")
    ),
    AuxiliaryPattern(
        "LibreChat: title by a call", ("tools you can use to generate the conversation title",), leads=False
    ),
    AuxiliaryPattern("Open WebUI: choice of tools", ("available tools:", '"tool_calls"')),
    AuxiliaryPattern("Roo: compaction", ("your task is to create a detailed summary of the conversation so",)),
)
# Any wording of an instruction to write a title of this conversation, at the beginning of either message.
_TITLE = re.compile(
    r"(?:- )?(?:please |you will |your task is to )*"
    r"(?:generate|provide|write|create|suggest|give me|reply with|respond with|come up with)\b[^.?!]{0,60}"
    r"(?:\btitle\b[^.?!]{0,80}\b(?:this|our|the|a) (?:conversation|chat|discussion|thread)(?: history| session)?"
    r"(?= ?[.,:;!(]| in | so far| without| using| that| based|$)"
    r"|\btitle\b[^?!]{0,80}\buser's (?:first )?message|\b(?:conversation|chat|thread) title\b)"
)


def is_auxiliary(messages: Sequence[ChatMessage]) -> bool:
    """Return whether a client asks by itself, not a person."""
    if not messages or messages[-1].role != "user":
        return False
    system = messages[0].text if messages[0].role == "system" else ""
    return _matches_any(_IN_LAST_MESSAGE, messages[-1].text) or _matches_any(_IN_SYSTEM_MESSAGE, system)


def _matches_any(patterns: Sequence[AuxiliaryPattern], text: str) -> bool:
    plain = _SPACE.sub(" ", text).strip().lower()
    return any(_matches(pattern, plain) for pattern in patterns) or _TITLE.match(plain) is not None


def _matches(pattern: AuxiliaryPattern, text: str) -> bool:
    has_beginning = not pattern.leads or text.startswith(pattern.parts[0])
    return has_beginning and all(part in text for part in pattern.parts)
