"""A model's text to content, reasoning and tool calls, while it is being generated.

What a marker promises is read by the grammars in `tool_syntax`; a call leaves when all of it is there, so its arguments
are always JSON, and what turns out to be none is content, to the letter. Of other text no more is held back than could
still be a marker, and white space, which belongs to the content only if content follows.
"""

import itertools
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self
from uuid import uuid4

from models.llm.chat.events import Content, ParsedEvent, Reasoning, ToolCallArguments, ToolCallStart
from models.llm.tool_syntax.calls import Call, CallFormat, ForcedCall, Tools
from models.llm.tool_syntax.families import Family, Thinking, family_of, thinking_of
from models.llm.tool_syntax.python_calls import write_python
from models.llm.tool_syntax.reader import SPACE, Malformed, Reader
from models.llm.tool_syntax.turns import Segment

_TOKEN_NAME = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]|｜DSML｜|\]<\]minimax\[>\[")


@dataclass(frozen=True)
class Syntax:
    """How the model behind a chat template writes calls and reasoning."""

    family: Family
    thinking: Thinking | None

    @classmethod
    def of(cls, template_source: str) -> Self:
        family = family_of(template_source)
        return cls(family, thinking_of(template_source, family))

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def is_native(self) -> bool:
        """False: the template speaks of no tools, and calls are looked for as plain JSON."""
        return self.family.is_native

    @cached_property
    def control_markers(self) -> frozenset[str]:
        """Names of tokens that must come as text. Some are not tokens in every vocabulary."""
        markers = [marker for form in self.family.formats for marker in form.markers]
        markers += [*self.family.skipped, *map(str, self.family.forced)]
        if self.thinking:
            markers += [self.thinking.begin, self.thinking.end]
        return frozenset(name for marker in markers for name in _TOKEN_NAME.findall(marker))

    def starts_in_reasoning(self, prompt_end: str) -> bool:
        """Whether the model's text begins within reasoning, behind a prompt whose scaffold ends like this."""
        return self.thinking is not None and prompt_end.rstrip().endswith(self.thinking.begin.rstrip())

    @cached_property
    def trigger(self) -> str:
        """What a call begins with, where what follows is always the form in which calls are forced; else ""."""
        return self.family.trigger

    def forced_call(self, name: str) -> ForcedCall:
        """For constrained decoding. A prompt that ends within reasoning wants the reasoning's end first."""
        return self.family.forced.named(name)

    def written(self, calls: Sequence[tuple[str, str]]) -> list[Segment]:
        """Calls, by name and arguments, as the model itself would have written them."""
        form = self.family.forced
        parts = [Segment(form.opening, is_content=False)]
        for at, (name, arguments) in enumerate(calls):
            if at:
                parts.append(Segment(form.separator or "\n", is_content=False))
            if self.family.is_pythonic:
                parts.append(Segment(write_python(name, arguments), is_content=True))
                continue
            before, *after = form.begin.split("NAME")
            parts.append(Segment(before, is_content=False))
            for scaffold in after:
                parts += [Segment(name, is_content=True), Segment(scaffold, is_content=False)]
            parts += [Segment(arguments, is_content=True), Segment(form.end, is_content=False)]
        return [*parts, Segment(form.closing, is_content=False)]


Flow = Generator[ParsedEvent | None, None, None]


class Parser:
    """For one answer."""

    def __init__(
        self,
        syntax: Syntax,
        tools_allowed: bool = True,
        starts_in_reasoning: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        must_call: bool = False,
    ) -> None:
        """`tools` are the request's OpenAI function tools: they type arguments whose text does not, and where a call
        has no marker, only a name among them makes one. `must_call`: the text is constrained to be calls."""
        self._family = syntax.family
        self._thinking = syntax.thinking
        self._formats = syntax.family.formats if tools_allowed else ()
        self._tools = Tools(tools)
        self._must_call = must_call
        self._reader = Reader()
        self._is_cut = False
        self.is_reasoning = starts_in_reasoning and self._thinking is not None
        self._space = ""  # let out only if content follows
        self._has_content = False
        self._is_behind_block = False  # reasoning or a call, with no content after it yet
        self._num_calls = 0
        self._flow = self._run(starts_in_reasoning)

    @property
    def num_held(self) -> int:
        """Characters that are held back."""
        return len(self._reader.text) + len(self._space)

    def feed(self, text: str, *, final: bool = False, is_cut: bool = False) -> list[ParsedEvent]:
        """What this text makes certain; everything held back, when `final`. Half a call is content, but nothing where
        it `is_cut`: the model had no room to finish it."""
        self._is_cut = is_cut
        self._reader.feed(text, final=final)
        events: list[ParsedEvent] = []
        for event in self._flow:
            if event is None:
                break
            events.append(event)
        return [_joined(list(group)) for _, group in itertools.groupby(events, _kind)]

    def _run(self, starts_in_reasoning: bool) -> Flow:
        if starts_in_reasoning and self._thinking:
            yield from self._reasoning(self._thinking)
        while True:
            if not self._has_content and not self._num_calls:
                yield from self._start()
            marker = yield from self._text(Content, self._markers())
            if not marker:
                break
            if self._thinking and marker == self._thinking.begin and self._may_think:
                yield from self._reasoning(self._thinking)
            elif marker in self._family.skipped:
                self._cut(len(marker))
            elif not (yield from self._calls([form for form in self._formats if marker in form.begins])):
                yield from self._let_out(Content, self._cut(len(marker)))
        space, self._space = self._space, ""
        if space and not self._is_behind_block:
            yield Content(space)

    @property
    def _may_think(self) -> bool:
        return self._thinking is not None and (self._thinking.is_anywhere or not self._has_content)

    def _markers(self) -> list[str]:
        markers = [begin for form in self._formats for begin in form.begins] + list(self._family.skipped)
        return [*markers, self._thinking.begin] if self._thinking and self._may_think else markers

    def _start(self) -> Flow:
        """What is a call, or no content, only in front of everything else."""
        # Where a prompt may end with either mark of reasoning, models begin with the closing one.
        leads = [lead for lead in (self._family.lead, self._thinking and self._thinking.end) if lead]
        starts = [start for form in self._formats for start in form.starts]
        if not leads and not starts:
            return
        yield from self._reader.skip_space()
        yield from self._let_out(Content, self._cut(self._reader.at))
        if lead := (yield from self._reader.take(*leads)):
            self._reader.commit()
            self._is_behind_block = lead != self._family.lead
        elif starts:
            start = yield from self._reader.peek(*starts)
            yield from self._calls([form for form in self._formats if start in form.starts])

    def _reasoning(self, thinking: Thinking) -> Flow:
        space, self._space = self._space * self._has_content, ""
        self.is_reasoning = True
        yield from self._reader.skip_space()
        yield from self._reader.take(thinking.begin)
        yield from self._reader.skip_space()
        self._reader.commit()
        # Control tokens are never meant as words: a call begins even if the model forgot to end its reasoning.
        begins = [b for form in self._formats for b in form.begins if b.startswith(("<|", "<｜"))]
        if (yield from self._text(Reasoning, [thinking.end, *begins])) == thinking.end:
            self._cut(len(thinking.end))
        self._space = space
        self._is_behind_block = True
        self.is_reasoning = False

    def _calls(self, formats: Sequence[CallFormat]) -> Generator[ParsedEvent | None, None, bool]:
        """Whether the text began with a call in one of these formats."""
        self._reader.is_exhausted = False
        for form in formats:
            num_before = self._num_calls
            self._reader.at = 0
            try:
                for call in form.read(self._reader, self._tools):
                    if call is None:
                        yield None
                    else:
                        yield from self._call(call)
                self._reader.commit()
                return True
            except Malformed:
                self._reader.at = 0
                if self._is_unfinished(form):
                    self._cut(len(self._reader.text))
                    self._space = ""
                    return True
                if self._num_calls > num_before:
                    return True  # and what follows the last call is content
        return False

    def _is_unfinished(self, form: CallFormat) -> bool:
        return self._is_cut and self._reader.is_exhausted and (bool(form.begins) or self._must_call)

    def _call(self, call: Call) -> Flow:
        self._reader.commit()
        self._space = ""
        self._is_behind_block = True
        index, self._num_calls = self._num_calls, self._num_calls + 1
        yield ToolCallStart(index, f"call_{uuid4().hex[:24]}", call.name)
        yield ToolCallArguments(index, call.arguments)

    def _text(
        self, kind: type[Content | Reasoning], markers: Sequence[str]
    ) -> Generator[ParsedEvent | None, None, str]:
        """Lets text out up to the first of these markers, and leaves that; "" at the end of all text."""
        while True:
            marker, at = self._find(markers)
            yield from self._let_out(kind, self._cut(at))
            if marker or self._reader.is_final:
                return marker
            yield None

    def _find(self, markers: Sequence[str]) -> tuple[str, int]:
        """The first marker, the longest of those, and where; or "" and how much is surely none."""
        text = self._reader.text
        found = min(((at, -len(m), m) for m in markers if (at := text.find(m)) >= 0), default=(len(text), 0, ""))
        if not self._reader.is_final:
            beginnings, longest = _beginnings(tuple(markers))
            for at in range(max(0, len(text) - longest), min(len(text), found[0] + 1)):
                if text[at:] in beginnings:
                    return "", at
        return found[2], found[0]

    def _let_out(self, kind: type[Content | Reasoning], text: str) -> Flow:
        text = self._space + text
        is_plain = not self._formats and not self._thinking and not self._family.skipped
        body = text if is_plain else text.rstrip(SPACE)
        self._space = text[len(body) :]
        if kind is Content and body:
            if self._is_behind_block and not self._has_content:
                body = body.lstrip(SPACE)
            self._has_content, self._is_behind_block = True, False
        if body:
            yield kind(body)

    def _cut(self, size: int) -> str:
        text = self._reader.text[:size]
        self._reader.at = size
        self._reader.commit()
        return text


@lru_cache(maxsize=64)
def _beginnings(markers: tuple[str, ...]) -> tuple[frozenset[str], int]:
    """What could become one of the markers, and how long that is at most."""
    beginnings = frozenset(marker[:size] for marker in markers for size in range(1, len(marker)))
    return beginnings, max(map(len, beginnings), default=0)


def _kind(event: ParsedEvent) -> object:
    """Events that follow each other and are of one kind are one event."""
    return type(event) if isinstance(event, Content | Reasoning) else id(event)


def _joined(events: Sequence[ParsedEvent]) -> ParsedEvent:
    first = events[0]
    if isinstance(first, Content | Reasoning):
        return type(first)("".join(event.text for event in events if isinstance(event, Content | Reasoning)))
    return first
