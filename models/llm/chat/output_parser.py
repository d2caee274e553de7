"""A model's text to content, reasoning and tool calls, while it is being generated.

What a marker promises is read by the grammars in `tool_syntax`; a call leaves when all of it is there, so its arguments
are always JSON, and what turns out to be none is content, to the letter. Of other text no more is held back than could
still be a marker, and white space, which belongs to the content only if content follows.
"""

import itertools
from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import uuid4

from models.llm.chat.events import Content, ParsedEvent, Reasoning, ToolCallArguments, ToolCallStart
from models.llm.chat.output_syntax import OutputSyntax
from models.llm.tool_syntax.calls import CallFormat, ParsedCall, ToolSignatures
from models.llm.tool_syntax.family import ReasoningMarkers
from models.llm.tool_syntax.text_cursor import SPACE, Malformed, TextCursor

Flow = Generator[ParsedEvent | None, None, None]


class OutputParser:
    """For one answer."""

    def __init__(
        self,
        syntax: OutputSyntax,
        tools_allowed: bool = True,
        starts_in_reasoning: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        must_call: bool = False,
    ) -> None:
        """`tools` are the request's OpenAI function tools: they type arguments whose text does not, and where a call
        has no marker, only a name among them makes one. `must_call`: the text is constrained to be calls."""
        self._family = syntax.family
        self._reasoning_markers = syntax.reasoning
        self._formats = syntax.family.formats if tools_allowed else ()
        self._tools = ToolSignatures(tools)
        self._must_call = must_call
        self._reader = TextCursor()
        self._is_cut = False
        self.is_reasoning = starts_in_reasoning and self._reasoning_markers is not None
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
        if starts_in_reasoning and self._reasoning_markers:
            yield from self._reasoning(self._reasoning_markers)
        while True:
            if not self._has_content and not self._num_calls:
                yield from self._start()
            marker = yield from self._text(Content, self._markers())
            if not marker:
                break
            if self._reasoning_markers and marker == self._reasoning_markers.begin and self._may_think:
                yield from self._reasoning(self._reasoning_markers)
            elif marker in self._family.skipped:
                self._cut(len(marker))
            elif not (yield from self._calls([form for form in self._formats if marker in form.begins])):
                yield from self._let_out(Content, self._cut(len(marker)))
        space, self._space = self._space, ""
        if space and not self._is_behind_block:
            yield Content(space)

    @property
    def _may_think(self) -> bool:
        return self._reasoning_markers is not None and (self._reasoning_markers.is_anywhere or not self._has_content)

    def _markers(self) -> list[str]:
        markers = [begin for form in self._formats for begin in form.begins] + list(self._family.skipped)
        return [*markers, self._reasoning_markers.begin] if self._reasoning_markers and self._may_think else markers

    def _start(self) -> Flow:
        """What is a call, or no content, only in front of everything else."""
        # Where a prompt may end with either mark of reasoning, models begin with the closing one.
        leads = [lead for lead in (self._family.lead, self._reasoning_markers and self._reasoning_markers.end) if lead]
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

    def _reasoning(self, reasoning_markers: ReasoningMarkers) -> Flow:
        space, self._space = self._space * self._has_content, ""
        self.is_reasoning = True
        yield from self._reader.skip_space()
        yield from self._reader.take(reasoning_markers.begin)
        yield from self._reader.skip_space()
        self._reader.commit()
        # Control tokens are never meant as words: a call begins even if the model forgot to end its reasoning.
        begins = [b for form in self._formats for b in form.begins if b.startswith(("<|", "<｜"))]
        if (yield from self._text(Reasoning, [reasoning_markers.end, *begins])) == reasoning_markers.end:
            self._cut(len(reasoning_markers.end))
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

    def _call(self, call: ParsedCall) -> Flow:
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
        is_plain = not self._formats and not self._reasoning_markers and not self._family.skipped
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
