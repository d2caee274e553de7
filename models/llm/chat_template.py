"""Messages to prompt text, by the Jinja template inside the model file.

The text comes back in segments that say who wrote it: the template, whose control-token names are meant, or a message,
whose are not. So a document that contains `<|im_end|>` cannot end a turn: the tokenizer reads it as the characters
it is. Boundaries are found by wrapping every message's content in two Unicode noncharacters, which no template knows
and no text may contain.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import jinja2
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.errors import TemplateError

_START, _END = "\ufdd0", "\ufdd1"
_NONCHARACTERS = str.maketrans({_START: "\ufffd", _END: "\ufffd"})

# What llama.cpp uses for a file without a template of its own.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ChatMessage(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Segment(NamedTuple):
    text: str
    is_content: bool


def _refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)


class ChatTemplate:
    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """`bos` and `eos` are the names of those tokens. Raises `TemplateError` when `source` is no template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = lambda value, **_: msgspec.json.encode(value).decode()
        environment.globals.update(
            raise_exception=_refuse,
            strftime_now=lambda form: datetime.now().astimezone().strftime(form),
            bos_token=bos,
            eos_token=eos,
        )
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise TemplateError(str(error)) from error

    def render(self, messages: Sequence[ChatMessage]) -> list[Segment]:
        """The prompt up to where the assistant's answer begins. Raises `TemplateError`."""
        try:
            return self._segments(messages)
        except TemplateError:
            if (folded := _fold_system(messages)) == messages:
                raise
            return self._segments(folded)  # many templates know no system role

    def _segments(self, messages: Sequence[ChatMessage]) -> list[Segment]:
        clean = [_with_content(m, m.content.translate(_NONCHARACTERS)) for m in messages]
        plain = self._text(clean)
        for trimmed in (
            False,
            True,
        ):  # some templates strip what they are given, and would not see through the marks
            contents = [m.content.strip() if trimmed else m.content for m in clean]
            marked = self._text([_with_content(m, f"{_START}{c}{_END}") for m, c in zip(clean, contents, strict=True)])
            if marked.replace(_START, "").replace(_END, "") == plain:
                return _split(marked)
        # The template takes the content apart, so nothing tells its text from ours: break the names of control
        # tokens in the content, by a zero-width space after the first character, and let all of it be the template's.
        return [Segment(self._text([_with_content(m, _break_names(m.content)) for m in clean]), is_content=False)]

    def _text(self, messages: Sequence[ChatMessage]) -> str:
        try:
            return self._template.render(
                messages=[msgspec.to_builtins(m) for m in messages], add_generation_prompt=True, tools=None
            )
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
        ) as error:
            raise TemplateError(str(error)) from error  # what a faulty template or an unexpected message can raise


def _with_content(message: ChatMessage, content: str) -> ChatMessage:
    return ChatMessage(message.role, content)


def _fold_system(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """System messages in front of the first user turn's content, where there is one."""
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    rest = [m for m in messages if m.role != "system"]
    if not system or not rest or rest[0].role != "user":
        return messages
    return [_with_content(rest[0], f"{system}\n\n{rest[0].content}"), *rest[1:]]


def _split(marked: str) -> list[Segment]:
    segments: list[Segment] = []
    for part in marked.split(_START):
        content, mark, scaffold = part.rpartition(_END)
        if mark:
            segments.append(Segment(content, is_content=True))
        segments.append(Segment(scaffold, is_content=False))
    return [segment for segment in segments if segment.text]


def _break_names(content: str) -> str:
    for opening in ("<", "["):
        content = content.replace(opening, f"{opening}\u200b")
    return content
