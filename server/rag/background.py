"""Requests that a client makes by itself: a title for the chat, tags, what to ask next, a summary of what was said.

They come over the same route as a person's questions and are told apart by the words that the clients begin them with,
or by the parts such prompts are made of. A person who asks about titles or summaries writes differently.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from models.llm.chat_template import ChatMessage

_SPACE = re.compile(r"\s+")


class Habit(NamedTuple):
    """How one kind of request is written: all of `parts` are in the message, the first at its very beginning if it is
    to lead. Lower case, single spaces."""

    purpose: str
    parts: tuple[str, ...]
    leads: bool = True


_ASKED = (  # in the last message
    Habit("Open WebUI: title, tags, follow-ups, queries, image prompt", ("### task:", "<chat_history>")),
    Habit("Open WebUI: completing what is typed", ("### task:", "autocompletion system")),
    Habit("Open WebUI: an emoji for a message", ("your task is to reflect the speaker", "emoji")),
    Habit("Open WebUI: several answers made one", ("you have been provided with a set of responses from",)),
    Habit("Continue: title, description", ("given the following... please reply with a",)),
    Habit("Continue: compaction", ("create a comprehensive summary of this conversation",)),
    Habit("LibreChat: title", ("provide a concise, 5-word-or-less title",)),
    Habit("LibreChat: title and its language", ("analyze this conversation and provide", "detected language")),
    Habit("LibreChat: title of an assistant's thread", ("please generate a concise title", "that starts with")),
    Habit("LibreChat: summary", ("summarize the conversation by integrating new lines",)),
    Habit("Zed: title", ("generate a concise 3-7 word title",)),
    Habit("Zed: summary", ("generate a detailed summary of this conversation. include",)),
    Habit("Cline: compaction", ('<explicit_instructions type="condense"',), leads=False),
    Habit("Roo: compaction", ("summarize the conversation so far, as described in",)),
    Habit("several coding clients: compaction", ("your task is to create a detailed summary of the conversation so",)),
    Habit("NextChat: title", ("please generate a four to five word title",)),
    Habit("NextChat: summary", ("in 200 words or less to use as a prompt for future context",), leads=False),
)
_INSTRUCTED = (  # in the system message
    Habit("Copilot: title", ("you are an expert in crafting pithy titles",)),
    Habit("opencode: title", ("you are a title generator",)),
    Habit("Cherry Studio, LobeChat: title", ("you are an assistant", "the user's conversation into a title")),
    Habit("LibreChat: title, before 0.7", ("write a concise title for this conversation",)),
    Habit("LibreChat: title by a call", ("tools you can use to generate the conversation title",), leads=False),
    Habit("Open WebUI: choice of tools", ("available tools:", '"tool_calls"')),
    Habit("Roo: compaction", ("your task is to create a detailed summary of the conversation so",)),
)
# However it is worded: an order for a title of the very conversation, at the beginning of the message.
_TITLE = re.compile(
    r"(?:please )?(?:generate|provide|write|create|suggest|give me|reply with|respond with|come up with)\b"
    r"[^.?!]{0,60}\btitle\b[^.?!]{0,40}\b(?:this|our|the) (?:conversation|chat|discussion|thread)\b"
    r"(?= ?[.,:;!(]| in | so far| without| using| that| based|$)"
)


def is_background(messages: Sequence[ChatMessage]) -> bool:
    """Whether it is the client that asks, not a person."""
    if not messages or messages[-1].role != "user":
        return False
    asked = _plain(messages[-1].content)
    if any(_is_of(habit, asked) for habit in _ASKED) or _TITLE.match(asked):
        return True
    instructed = _plain(messages[0].content) if messages[0].role == "system" else ""
    return any(_is_of(habit, instructed) for habit in _INSTRUCTED)


def _is_of(habit: Habit, text: str) -> bool:
    is_led = not habit.leads or text.startswith(habit.parts[0])
    return is_led and all(part in text for part in habit.parts)


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip().lower()
