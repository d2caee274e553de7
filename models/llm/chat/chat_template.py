"""Messages to prompt text, by the Jinja template inside the model file.

The text comes back in segments that say who wrote it: the template, whose control-token names are meant, or a message,
whose are not. So a document that contains `<|im_end|>` cannot end a turn: the tokenizer reads it as the characters
it is. Boundaries are found by wrapping what messages say in two Unicode noncharacters, which no template knows and no
text may contain. Words of calls and tools are wrapped only if they could name a control token: templates decide on
words like `string`, and a model reads best what it was trained on, in one piece.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import msgspec

from models.errors import TemplateError
from models.llm.chat.messages import ChatMessage
from models.llm.chat.parser import Syntax
from models.llm.chat.template_environment import MAX_SOURCE, TemplateEnvironment
from models.llm.tool_syntax.template_probe import probe_capabilities
from models.llm.tool_syntax.turns import (
    Marking,
    Segment,
    TemplateCapabilities,
    Tool,
    Turn,
    adapted,
    mapped,
    message_view,
    tool_view,
)

_START, _END = "\ufdd0", "\ufdd1"
_SUSPECT = re.compile(r"[<\[\]｜]")  # what the name of a control token has, and a word of a schema has not
_OPENING = re.compile(r"[<\[｜]|\](?=[~<])")
_ESCAPED_MARK = re.compile(r"(?<!\\)((?:\\\\)*)\\ufdd([01])")

# What llama.cpp uses for a file without a template of its own.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ChatTemplate:
    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """`bos` and `eos` are the names of those tokens. Raises `TemplateError` when `source` is no template."""
        if len(source) > MAX_SOURCE:
            raise TemplateError(f"it has {len(source)} characters; {MAX_SOURCE} at most")
        environment = TemplateEnvironment()
        environment.globals.update(
            raise_exception=_refuse,
            strftime_now=lambda form: datetime.now().astimezone().strftime(form),
            bos_token=bos,
            eos_token=eos,
        )
        self._environment = environment
        try:
            self._template = environment.from_string(source)
        except Exception as error:  # a model file is foreign code, and can fail in any way
            raise TemplateError(str(error)) from error
        self.syntax = Syntax.of(source)
        environment.grant(0)
        self._habits = probe_capabilities(self._trial, source)

    @property
    def renders_tools(self) -> bool:
        """Whether the template has a place of its own for tools. If not, they are told in the system message."""
        return self._habits.renders_tools

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Tool] | None = None,
        *,
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> list[Segment]:
        """The prompt, up to where the assistant's answer begins. Raises `TemplateError`.

        `tools` are OpenAI function tools. `options` are the template's own variables, such as `enable_thinking`.
        """
        turns = [self._turn(message) for message in messages]
        self._environment.grant(len(msgspec.json.encode((messages, tools))))
        variables = {**_variables(options or {}), "add_generation_prompt": add_generation_prompt}
        refused: TemplateError | None = None
        for variant, variant_tools in self._variants(turns, tools):
            try:
                return self._segments(variant, variant_tools, variables)
            except TemplateError as error:
                refused = refused or error
        assert refused  # by the first of them
        raise refused

    def _turn(self, message: ChatMessage) -> Turn:
        content, reasoning = message.text, message.reasoning
        thinking = self.syntax.thinking
        if thinking and message.role == "assistant" and not reasoning and content.lstrip().startswith(thinking.begin):
            # Many clients send back the whole text. The template knows what to do with the reasoning in it.
            inner, end, rest = content.lstrip().removeprefix(thinking.begin).partition(thinking.end)
            content, reasoning = (rest.lstrip(), inner.strip()) if end else (content, reasoning)
        parts = (Segment(content, is_content=True),) if content else ()
        return Turn(message.role, parts, message.tool_calls, message.tool_call_id, message.name, reasoning)

    def _variants(
        self, turns: list[Turn], tools: Sequence[Tool] | None
    ) -> Iterator[tuple[list[Turn], Sequence[Tool] | None]]:
        """The same in ways that a template may put up with: as it is, then with less and less asked of it."""
        for tells_tools in (False, True) if tools else (False,):
            fit, fit_tools = adapted(turns, tools, self._habits, self.syntax.written, tells_tools=tells_tools)
            yield fit, fit_tools
            quiet = [turn._replace(reasoning=None) for turn in fit]
            for variant in (quiet, _fold_system(fit), _fold_system(quiet)):
                if variant != fit:
                    yield variant, fit_tools

    def _segments(
        self, turns: Sequence[Turn], tools: Sequence[Tool] | None, variables: Mapping[str, Any]
    ) -> list[Segment]:
        def text(content: Callable[[str], str], word: Callable[[str], str]) -> str:
            return self._text(turns, tools, self._habits, Marking(content, word), variables)

        # Some templates strip what they are given, and do not see through marks around white space.
        trials = [(_same, _whole, _suspect_whole), (_same, _core, _suspect_whole)]
        if tools or any(turn.calls for turn in turns):
            trials.append((_broken, _core, _broken))
        plains: dict[Callable[[str], str], str] = {}
        for plain_word, content, word in trials:
            if plain_word not in plains:
                plains[plain_word] = text(_same, plain_word)
            with contextlib.suppress(TemplateError):
                segments = _split(text(content, word), plains[plain_word])
                if segments is not None:
                    return segments
        # The template takes the content apart, so nothing tells its text from ours: break the names of control
        # tokens in the content, by a zero-width space after the first character, and let all of it be the template's.
        return [Segment(text(_broken, _broken), is_content=False)]

    def _trial(self, turns: Sequence[Turn], tools: Sequence[Tool] | None, habits: TemplateCapabilities) -> str:
        return self._text(turns, tools, habits, Marking(_same, _same), {"add_generation_prompt": True})

    def _text(
        self,
        turns: Sequence[Turn],
        tools: Sequence[Tool] | None,
        habits: TemplateCapabilities,
        marking: Marking,
        variables: Mapping[str, Any],
    ) -> str:
        views = _Given(tool_view(tool, marking) for tool in tools or ())
        try:
            return self._template.render(
                variables,
                messages=_Given(message_view(turn, habits, marking) for turn in turns),
                tools=views if views or habits.has_empty_tools else None,
                functions=self._environment.to_json(views, indent=2) if views else "",  # the same, for firefunction
                datetime=datetime.now().astimezone().strftime("%d %b %Y"),
            )
        except Exception as error:  # foreign code, which can fail in any way
            raise TemplateError(str(error)) from error


class _Given(list[Any]):
    """What a template was given, and may not change."""


def _refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)


def _variables(options: Mapping[str, Any]) -> dict[str, Any]:
    """No option may name a control token, or stand in for what the environment gives."""
    known = {"messages", "tools", "functions", "datetime", "bos_token", "eos_token", "raise_exception", "strftime_now"}
    variables = {name: mapped(value, _broken) for name, value in options.items() if name not in known}
    if "enable_thinking" in variables:  # which some templates call by this name
        variables.setdefault("thinking", variables["enable_thinking"])
    return variables


def _fold_system(turns: list[Turn]) -> list[Turn]:
    """System messages in front of the first user turn's content, where there is one: many templates know no system."""
    system = "\n\n".join(turn.text for turn in turns if turn.role == "system")
    rest = [turn for turn in turns if turn.role != "system"]
    if not system or not rest or rest[0].role != "user":
        return turns
    first = rest[0]._replace(content=(Segment(f"{system}\n\n{rest[0].text}", is_content=True),))
    return [first, *rest[1:]]


def _split(marked: str, plain: str) -> list[Segment] | None:
    """None where the marks changed what the template did, or no longer stand in pairs."""
    segments = _pairs(marked, plain)
    if segments is None and "\\ufdd" in marked:  # as Python and ASCII JSON write them
        unescaped = _ESCAPED_MARK.sub(lambda mark: mark[1] + (_START, _END)[int(mark[2])], marked)
        return _pairs(unescaped, plain)
    return segments


def _pairs(marked: str, plain: str) -> list[Segment] | None:
    if marked.replace(_START, "").replace(_END, "") != plain:
        return None
    scaffold, *parts = marked.split(_START)
    segments = [Segment(scaffold, is_content=False)]
    for part in parts:
        content, *behind = part.split(_END)
        if len(behind) != 1:
            return None
        segments += [Segment(content, is_content=True), Segment(behind[0], is_content=False)]
    return None if _END in scaffold else [segment for segment in segments if segment.text]


def _same(text: str) -> str:
    return text.replace(_START, "\ufffd").replace(_END, "\ufffd")


def _whole(text: str) -> str:
    return f"{_START}{_same(text)}{_END}" if text else text


def _core(text: str) -> str:
    core = text.strip()
    before, _, after = text.partition(core) if core else (text, "", "")
    return f"{before}{_whole(core)}{after}"


def _suspect_whole(text: str) -> str:
    return _whole(text) if _SUSPECT.search(text) else _same(text)


def _broken(text: str) -> str:
    return _OPENING.sub(lambda opening: f"{opening[0]}\u200b", _same(text))
