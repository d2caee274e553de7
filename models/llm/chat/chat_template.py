"""Rendering of messages to prompt text by the Jinja template inside the model file.

The text comes back in segments that say who wrote it: the template, in which names of control tokens mean those
tokens, or a message, in which they do not. So a document that contains `<|im_end|>` cannot end a turn: the tokenizer
reads it as the characters it is. The borders are found by wrapping the texts of messages in two Unicode
noncharacters, which no template knows and no text may contain. Words of calls and tools are wrapped only if they
could name a control token: templates decide on words like `string`, and a model reads best what it was trained on,
in one piece.
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
from models.llm.chat.output_syntax import OutputSyntax
from models.llm.chat.prompt import Segment
from models.llm.chat.template_environment import MAX_SOURCE_CHARS, TemplateEnvironment
from models.llm.chat.template_messages import (
    Marking,
    TemplateCapabilities,
    TemplateMessage,
    adapt_messages,
    map_strings,
    view_message,
    view_tool,
)
from models.llm.chat.template_probe import probe_capabilities
from models.llm.chat.tool_config import ToolDefinition

_START, _END = "\ufdd0", "\ufdd1"
_SUSPECT = re.compile(r"[<\[\]｜]")  # in the names of control tokens, and not in the words of a schema
_OPENING = re.compile(r"[<\[｜]|\](?=[~<])")
_ESCAPED_MARK = re.compile(r"(?<!\\)((?:\\\\)*)\\ufdd([01])")

# llama.cpp's default for a file without a template.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ChatTemplate:
    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """Compile and probe the template. `bos` and `eos` are the names of those tokens. Raises `TemplateError`."""
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(f"it has {len(source)} characters; {MAX_SOURCE_CHARS} at most")
        environment = TemplateEnvironment()
        environment.globals.update(
            raise_exception=_raise_exception,
            strftime_now=lambda form: datetime.now().astimezone().strftime(form),
            bos_token=bos,
            eos_token=eos,
        )
        self._environment = environment
        try:
            self._template = environment.from_string(source)
        except Exception as error:  # a model file is foreign code, and can fail in any way
            raise TemplateError(str(error)) from error
        self.syntax = OutputSyntax.of(source)
        environment.grant_budget(0)
        self._capabilities = probe_capabilities(self._render_unmarked, source)

    @property
    def renders_tools(self) -> bool:
        """True if the template has a place for tools. If not, the system message describes them."""
        return self._capabilities.renders_tools

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolDefinition] | None = None,
        *,
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> list[Segment]:
        """Return the prompt up to where the assistant's answer begins. Raises `TemplateError`.

        `options` are variables of the template, such as `enable_thinking`.
        """
        converted = [self._convert(message) for message in messages]
        self._environment.grant_budget(len(msgspec.json.encode((messages, tools))))
        variables = {**_template_variables(options or {}), "add_generation_prompt": add_generation_prompt}
        first_error: TemplateError | None = None
        for variant, variant_tools in self._variants(converted, tools):
            try:
                return self._segments(variant, variant_tools, variables)
            except TemplateError as error:
                first_error = first_error or error
        assert first_error  # there is at least one variant
        raise first_error

    def _convert(self, message: ChatMessage) -> TemplateMessage:
        text, reasoning = message.text, message.reasoning
        markers = self.syntax.reasoning
        if markers and message.role == "assistant" and not reasoning and text.lstrip().startswith(markers.begin):
            # Many clients send back the whole text. The template renders the reasoning in it as it should be.
            inner, end, rest = text.lstrip().removeprefix(markers.begin).partition(markers.end)
            text, reasoning = (rest.lstrip(), inner.strip()) if end else (text, reasoning)
        return TemplateMessage(
            message.role,
            content=(Segment(text, is_content=True),) if text else (),
            calls=message.tool_calls,
            call_id=message.tool_call_id,
            name=message.name,
            reasoning=reasoning,
        )

    def _variants(
        self, messages: list[TemplateMessage], tools: Sequence[ToolDefinition] | None
    ) -> Iterator[tuple[list[TemplateMessage], Sequence[ToolDefinition] | None]]:
        """Yield the conversation as it is, then in forms that ask less and less of the template."""
        for describes_tools in (False, True) if tools else (False,):
            adapted, adapted_tools = adapt_messages(
                messages, tools, self._capabilities, self.syntax.write_calls, describes_tools=describes_tools
            )
            yield adapted, adapted_tools
            without_reasoning = [message._replace(reasoning=None) for message in adapted]
            for variant in (without_reasoning, _fold_system(adapted), _fold_system(without_reasoning)):
                if variant != adapted:
                    yield variant, adapted_tools

    def _segments(
        self,
        messages: Sequence[TemplateMessage],
        tools: Sequence[ToolDefinition] | None,
        variables: Mapping[str, Any],
    ) -> list[Segment]:
        def render(content: Callable[[str], str], word: Callable[[str], str]) -> str:
            return self._render_text(messages, tools, self._capabilities, Marking(content, word), variables)

        # Some templates strip texts, and do not see white space through marks around it.
        trials = [(_remove_marks, _mark_whole, _mark_suspect), (_remove_marks, _mark_core, _mark_suspect)]
        if tools or any(message.calls for message in messages):
            trials.append((_break_names, _mark_core, _break_names))
        plain_texts: dict[Callable[[str], str], str] = {}
        for plain_word, content, word in trials:
            if plain_word not in plain_texts:
                plain_texts[plain_word] = render(_remove_marks, plain_word)
            with contextlib.suppress(TemplateError):
                segments = _split_at_marks(render(content, word), plain_texts[plain_word])
                if segments is not None:
                    return segments
        # The template takes the content apart, so marks do not survive: break the names of control tokens in the
        # content, by a zero-width space after the first character, and let all of it be the template's.
        return [Segment(render(_break_names, _break_names), is_content=False)]

    def _render_unmarked(
        self,
        messages: Sequence[TemplateMessage],
        tools: Sequence[ToolDefinition] | None,
        capabilities: TemplateCapabilities,
    ) -> str:
        marking = Marking(_remove_marks, _remove_marks)
        return self._render_text(messages, tools, capabilities, marking, {"add_generation_prompt": True})

    def _render_text(
        self,
        messages: Sequence[TemplateMessage],
        tools: Sequence[ToolDefinition] | None,
        capabilities: TemplateCapabilities,
        marking: Marking,
        variables: Mapping[str, Any],
    ) -> str:
        views = _ReadOnlyList(view_tool(tool, marking) for tool in tools or ())
        try:
            return self._template.render(
                variables,
                messages=_ReadOnlyList(view_message(message, capabilities, marking) for message in messages),
                tools=views if views or capabilities.has_empty_tools else None,
                functions=self._environment.to_json(views, indent=2) if views else "",  # firefunction's name for tools
                datetime=datetime.now().astimezone().strftime("%d %b %Y"),
            )
        except Exception as error:  # foreign code, which can fail in any way
            raise TemplateError(str(error)) from error


class _ReadOnlyList(list[Any]):
    """A variable that the template may not change: the environment lets it change plain lists alone."""


def _raise_exception(reason: str) -> None:
    raise jinja2.TemplateError(reason)


def _template_variables(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that may be variables: none names a control token or replaces one of the server's."""
    reserved = {
        "messages",
        "tools",
        "functions",
        "datetime",
        "bos_token",
        "eos_token",
        "raise_exception",
        "strftime_now",
    }
    variables = {name: map_strings(value, _break_names) for name, value in options.items() if name not in reserved}
    if "enable_thinking" in variables:  # some templates call it by this name
        variables.setdefault("thinking", variables["enable_thinking"])
    return variables


def _fold_system(messages: list[TemplateMessage]) -> list[TemplateMessage]:
    """Put system messages in front of the first user message, if there is one: many templates know no system role."""
    system = "\n\n".join(message.text for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if not system or not rest or rest[0].role != "user":
        return messages
    first = rest[0]._replace(content=(Segment(f"{system}\n\n{rest[0].text}", is_content=True),))
    return [first, *rest[1:]]


def _split_at_marks(marked: str, plain: str) -> list[Segment] | None:
    """Return the segments of a rendered text; None where marks changed the rendering or do not stand in pairs."""
    segments = _split_pairs(marked, plain)
    if segments is None and "\\ufdd" in marked:  # as Python and ASCII JSON write the marks
        unescaped = _ESCAPED_MARK.sub(lambda mark: mark[1] + (_START, _END)[int(mark[2])], marked)
        return _split_pairs(unescaped, plain)
    return segments


def _split_pairs(marked: str, plain: str) -> list[Segment] | None:
    if marked.replace(_START, "").replace(_END, "") != plain:
        return None
    scaffold, *parts = marked.split(_START)
    segments = [Segment(scaffold, is_content=False)]
    for part in parts:
        content, *rest = part.split(_END)
        if len(rest) != 1:
            return None
        segments += [Segment(content, is_content=True), Segment(rest[0], is_content=False)]
    return None if _END in scaffold else [segment for segment in segments if segment.text]


def _remove_marks(text: str) -> str:
    return text.replace(_START, "\ufffd").replace(_END, "\ufffd")


def _mark_whole(text: str) -> str:
    return f"{_START}{_remove_marks(text)}{_END}" if text else text


def _mark_core(text: str) -> str:
    core = text.strip()
    before, _, after = text.partition(core) if core else (text, "", "")
    return f"{before}{_mark_whole(core)}{after}"


def _mark_suspect(text: str) -> str:
    return _mark_whole(text) if _SUSPECT.search(text) else _remove_marks(text)


def _break_names(text: str) -> str:
    return _OPENING.sub(lambda opening: f"{opening[0]}\u200b", _remove_marks(text))
