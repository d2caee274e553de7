"""Parsing of an assistant's turn into events while it is being generated."""

from models.llm.chat.events import Content, EndReason, ParsedEvent, ToolCallStart, TurnEnd, TurnEvent
from models.llm.chat.logprobs import ScoredToken, TokenAlignment
from models.llm.chat.output_parser import OutputParser
from models.llm.chat.text_stream import TextDelta
from models.llm.engine.sequence import FinishReason


class AssistantTurnParser:
    """The parser of one turn: it counts tokens and keeps scored tokens beside the text that they are."""

    def __init__(self, parser: OutputParser) -> None:
        self._parser = parser
        self._alignment = TokenAlignment()
        self._has_calls = False
        self._num_generated = 0
        self._num_reasoning = 0

    def feed(self, delta: TextDelta) -> list[TurnEvent]:
        """Return the events that this delta makes certain; with the last delta, everything and a `TurnEnd`."""
        self._num_generated += delta.num_tokens
        self._num_reasoning += delta.num_tokens * self._parser.is_reasoning
        is_last, is_cut = delta.finish_reason is not None, delta.finish_reason is FinishReason.LENGTH
        parsed = self._parser.feed(delta.text, final=is_last, is_cut=is_cut)
        self._has_calls = self._has_calls or any(isinstance(event, ToolCallStart) for event in parsed)
        events: list[TurnEvent] = [*self._with_tokens(parsed, delta.tokens)]
        if is_last:
            reason = EndReason.TOOL_CALLS if self._has_calls else EndReason.STOP
            reason = EndReason.LENGTH if is_cut else reason
            events.append(
                TurnEnd(
                    reason=reason,
                    num_generated=self._num_generated,
                    num_reasoning=self._num_reasoning,
                    num_cached=delta.num_cached,
                    stopped_by=delta.stopped_by,
                )
            )
        return events

    def _with_tokens(self, events: list[ParsedEvent], tokens: tuple[ScoredToken, ...]) -> list[ParsedEvent]:
        """Return the events with all content in one piece and its tokens beside it."""
        self._alignment.push(tokens)
        text = "".join(event.text for event in events if isinstance(event, Content))
        scored = self._alignment.take(text, self._parser.num_held)
        first = next((at for at, event in enumerate(events) if isinstance(event, Content)), None)
        if first is None or not scored:
            return events
        rest = [event for event in events[first + 1 :] if not isinstance(event, Content)]
        return [*events[:first], Content(text, scored), *rest]
