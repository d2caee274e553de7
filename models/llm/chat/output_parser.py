"""Parsing of a model's text into content, reasoning and tool calls while it is being generated.

The grammars in `tool_syntax` read what a marker announces. A call is emitted when all of it is there, so its arguments
are always JSON; a marker without a call behind it is content, to the letter. Of other text no more is held back than
could still become a marker, and white space, which belongs to the content only if content follows.
"""

import itertools
from collections.abc import Generator, Sequence
from functools import lru_cache
from uuid import uuid4

from models.llm.chat.events import Content, ParsedEvent, Reasoning, ToolCallArguments, ToolCallStart
from models.llm.chat.output_syntax import OutputSyntax
from models.llm.chat.tool_config import ToolDefinition
from models.llm.tool_syntax.calls import CallFormat, ParsedCall, ToolSignatures
from models.llm.tool_syntax.family import ReasoningMarkers
from models.llm.tool_syntax.text_cursor import SPACE, Malformed, TextCursor

Flow = Generator[ParsedEvent | None, None, None]  # None: more text is needed


class OutputParser:
    """The parser of one answer."""

    def __init__(
        self,
        syntax: OutputSyntax,
        tools_allowed: bool = True,
        starts_in_reasoning: bool = False,
        tools: Sequence[ToolDefinition] = (),
        *,
        must_call: bool = False,
    ) -> None:
        """Begin an answer.

        `tools` give the types of arguments whose text does not show them; without a marker, a call is one only if it
        names one of them. `must_call`: the text is constrained to be calls.
        """
        self._family = syntax.family
        self._reasoning_markers = syntax.reasoning
        self._formats = syntax.family.formats if tools_allowed else ()
        self._tools = ToolSignatures(tools)
        self._must_call = must_call
        self._cursor = TextCursor()
        self._is_cut = False
        self.is_reasoning = starts_in_reasoning and self._reasoning_markers is not None
        self._space = ""  # emitted only if content follows
        self._has_content = False
        self._is_after_block = False  # after reasoning or a call, with no content since
        self._num_calls = 0
        self._flow = self._parse(starts_in_reasoning)

    @property
    def num_held(self) -> int:
        """The number of characters held back."""
        return len(self._cursor.text) + len(self._space)

    def feed(self, text: str, *, final: bool = False, is_cut: bool = False) -> list[ParsedEvent]:
        """Return the events that this text makes certain; when `final`, everything held back too.

        Half a call is content, but is left out if the text `is_cut`: the model had no room to finish it.
        """
        self._is_cut = is_cut
        self._cursor.feed(text, final=final)
        events: list[ParsedEvent] = []
        for event in self._flow:
            if event is None:
                break
            events.append(event)
        return [_join(list(group)) for _, group in itertools.groupby(events, _kind)]

    def _parse(self, starts_in_reasoning: bool) -> Flow:
        if starts_in_reasoning and self._reasoning_markers:
            yield from self._parse_reasoning(self._reasoning_markers)
        while True:
            if not self._has_content and not self._num_calls:
                yield from self._parse_start()
            marker = yield from self._parse_text(Content, self._markers())
            if not marker:
                break
            if self._reasoning_markers and marker == self._reasoning_markers.begin and self._may_reason:
                yield from self._parse_reasoning(self._reasoning_markers)
            elif marker in self._family.skipped:
                self._consume(len(marker))
            elif not (yield from self._parse_calls([form for form in self._formats if marker in form.begins])):
                yield from self._emit(Content, self._consume(len(marker)))
        space, self._space = self._space, ""
        if space and not self._is_after_block:
            yield Content(space)

    @property
    def _may_reason(self) -> bool:
        return self._reasoning_markers is not None and (self._reasoning_markers.is_anywhere or not self._has_content)

    def _markers(self) -> list[str]:
        markers = [begin for form in self._formats for begin in form.begins] + list(self._family.skipped)
        return [*markers, self._reasoning_markers.begin] if self._reasoning_markers and self._may_reason else markers

    def _parse_start(self) -> Flow:
        """Parse what counts as scaffold or as a call only at the start of an answer."""
        # If a prompt may end with either marker of reasoning, models begin with the closing one.
        leads = [lead for lead in (self._family.lead, self._reasoning_markers and self._reasoning_markers.end) if lead]
        starts = [start for form in self._formats for start in form.starts]
        if not leads and not starts:
            return
        yield from self._cursor.skip_space()
        yield from self._emit(Content, self._consume(self._cursor.at))
        if lead := (yield from self._cursor.take(*leads)):
            self._cursor.commit()
            self._is_after_block = lead != self._family.lead
        elif starts:
            start = yield from self._cursor.peek(*starts)
            yield from self._parse_calls([form for form in self._formats if start in form.starts])

    def _parse_reasoning(self, reasoning_markers: ReasoningMarkers) -> Flow:
        space, self._space = self._space * self._has_content, ""
        self.is_reasoning = True
        yield from self._cursor.skip_space()
        yield from self._cursor.take(reasoning_markers.begin)
        yield from self._cursor.skip_space()
        self._cursor.commit()
        # Control tokens are never words: a call begins even if the model forgot to end its reasoning.
        begins = [b for form in self._formats for b in form.begins if b.startswith(("<|", "<｜"))]
        if (yield from self._parse_text(Reasoning, [reasoning_markers.end, *begins])) == reasoning_markers.end:
            self._consume(len(reasoning_markers.end))
        self._space = space
        self._is_after_block = True
        self.is_reasoning = False

    def _parse_calls(self, formats: Sequence[CallFormat]) -> Generator[ParsedEvent | None, None, bool]:
        """Return whether the text begins with a call in one of these formats, and emit its events."""
        self._cursor.is_exhausted = False
        for form in formats:
            num_before = self._num_calls
            self._cursor.at = 0
            try:
                for call in form.read(self._cursor, self._tools):
                    if call is None:
                        yield None
                    else:
                        yield from self._emit_call(call)
                self._cursor.commit()
                return True
            except Malformed:
                self._cursor.at = 0
                if self._is_unfinished(form):
                    self._consume(len(self._cursor.text))
                    self._space = ""
                    return True
                if self._num_calls > num_before:
                    return True  # what follows the last call is content
        return False

    def _is_unfinished(self, form: CallFormat) -> bool:
        return self._is_cut and self._cursor.is_exhausted and (bool(form.begins) or self._must_call)

    def _emit_call(self, call: ParsedCall) -> Flow:
        self._cursor.commit()
        self._space = ""
        self._is_after_block = True
        index, self._num_calls = self._num_calls, self._num_calls + 1
        yield ToolCallStart(index, f"call_{uuid4().hex[:24]}", call.name)
        yield ToolCallArguments(index, call.arguments)

    def _parse_text(
        self, kind: type[Content | Reasoning], markers: Sequence[str]
    ) -> Generator[ParsedEvent | None, None, str]:
        """Emit text up to the first of these markers and return the marker, which stays; "" at the end of all text."""
        while True:
            marker, at = self._find_marker(markers)
            yield from self._emit(kind, self._consume(at))
            if marker or self._cursor.is_final:
                return marker
            yield None

    def _find_marker(self, markers: Sequence[str]) -> tuple[str, int]:
        """Return the first marker, of several the longest, and its position; or "" and where a marker might begin."""
        text = self._cursor.text
        first = min(((at, -len(m), m) for m in markers if (at := text.find(m)) >= 0), default=(len(text), 0, ""))
        if not self._cursor.is_final:
            beginnings, longest = _beginnings(tuple(markers))
            for at in range(max(0, len(text) - longest), min(len(text), first[0] + 1)):
                if text[at:] in beginnings:
                    return "", at
        return first[2], first[0]

    def _emit(self, kind: type[Content | Reasoning], text: str) -> Flow:
        text = self._space + text
        is_plain = not self._formats and not self._reasoning_markers and not self._family.skipped
        body = text if is_plain else text.rstrip(SPACE)
        self._space = text[len(body) :]
        if kind is Content and body:
            if self._is_after_block and not self._has_content:
                body = body.lstrip(SPACE)
            self._has_content, self._is_after_block = True, False
        if body:
            yield kind(body)

    def _consume(self, size: int) -> str:
        text = self._cursor.text[:size]
        self._cursor.at = size
        self._cursor.commit()
        return text


@lru_cache(maxsize=64)
def _beginnings(markers: tuple[str, ...]) -> tuple[frozenset[str], int]:
    """Return the texts that could become one of the markers, and the length of the longest."""
    beginnings = frozenset(marker[:size] for marker in markers for size in range(1, len(marker)))
    return beginnings, max(map(len, beginnings), default=0)


def _kind(event: ParsedEvent) -> object:
    """Return the key by which adjacent events are joined."""
    return type(event) if isinstance(event, Content | Reasoning) else id(event)


def _join(events: Sequence[ParsedEvent]) -> ParsedEvent:
    first = events[0]
    if isinstance(first, Content | Reasoning):
        return type(first)("".join(event.text for event in events if isinstance(event, Content | Reasoning)))
    return first
