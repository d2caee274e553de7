"""A conversation with its sources in it, and what is left out when it is longer than the model's context.

Passages are left out, a message never is: first the new turn's weakest passages, then those of the oldest turns,
several at once, because the beginning of a conversation is in the engine's prefix cache and best stays as it was. Then
the rest of the new passages, the last of them cut to its best sentences first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from models.errors import ContextLengthExceeded
from models.llm.chat.messages import ChatMessage, replace_text
from models.llm.chat.prompt import Prompt
from server.rag.history import Turn
from server.rag.prompts import Source, format_source, format_user_turn, with_system_message
from server.rag.report import DroppedSource
from server.rag.request import GroundingRequest
from server.rag.sentences import best_sentences

_KEPT_BEFORE_OLD = 3  # of the new turn's passages: as many stay until the old ones are left out
_ROOMY = 0.75  # of the context, once old passages are left out: so that the next turns need not leave out any
_TRIMMED = (600, 250)  # characters of the last new passage


class Context(NamedTuple):
    """The messages of a conversation, and the turns that have sources.

    `turns` is by the index of the user's message; `new` is the index of the new turn, if there is one. Sources whose
    numbers are in `hidden` are not in the prompt. With `question_first` each question stands before its sources too.
    """

    messages: Sequence[ChatMessage]
    turns: Mapping[int, Turn]
    new: int | None = None
    hidden: frozenset[int] = frozenset()
    question_first: bool = False

    @property
    def sources(self) -> dict[int, Source]:
        """The sources in the prompt, by number."""
        return {source.number: source for at in sorted(self.turns) for source in self._visible(at)}

    @property
    def new_sources(self) -> tuple[Source, ...]:
        """The sources of the new turn."""
        return () if self.new is None else self.turns[self.new].sources

    @property
    def earlier_sources(self) -> list[Source]:
        """The sources of the turns before, the oldest first."""
        return [source for at in sorted(self.turns) if at != self.new for source in self._visible(at)]

    def format_messages(self) -> list[ChatMessage]:
        """Return the messages that the model reads: each turn's sources in front of its question."""
        messages = [self._message(at, message) for at, message in enumerate(self.messages)]
        return with_system_message(messages) if self.turns else messages

    def with_new_sources(self, sources: Sequence[Source]) -> "Context":
        """Return this context with other sources of the new turn."""
        assert self.new is not None
        turn = msgspec.structs.replace(self.turns[self.new], sources=tuple(sources))
        return self._replace(turns={**self.turns, self.new: turn})

    def without(self, source: Source) -> "Context":
        """Return this context with one earlier source hidden."""
        return self._replace(hidden=self.hidden | {source.number})

    def without_notes(self) -> "Context":
        """Return this context without the notes of earlier turns that nothing was found for them."""
        turns = {at: msgspec.structs.replace(turn, found_nothing=False) for at, turn in self.turns.items()}
        if self.new is not None:
            turns[self.new] = self.turns[self.new]
        return self._replace(turns=turns)

    def _visible(self, at: int) -> list[Source]:
        return [source for source in self.turns[at].sources if source.number not in self.hidden]

    def _message(self, at: int, message: ChatMessage) -> ChatMessage:
        if at not in self.turns:
            return message
        found_nothing = self.turns[at].found_nothing
        text = format_user_turn(
            message.text, self._visible(at), found_nothing=found_nothing, question_first=self.question_first
        )
        return replace_text(message, text)


class FittedContext(NamedTuple):
    """A context that fits into the model, its prompt, and the sources that were left out or cut for it."""

    context: Context
    prompt: Prompt
    dropped: list[DroppedSource]


def fit(context: Context, request: GroundingRequest) -> FittedContext:
    """Return the context with as many of its sources as leave room for an answer.

    Without any source the prompt may take all but one of the model's tokens. Raises `ContextLengthExceeded` beyond.
    """
    room, context_length = request.max_prompt_tokens, request.model.context_length
    prompt = _prompt(context, request)
    num_tokens, sizes = prompt.num_tokens, _SourceSizes(context, request.model.count_tokens)
    smallest = context
    for smaller, share in _shrinkings(context):
        smallest = smaller
        if num_tokens - sizes.saved_tokens(smaller) > share * room:
            continue
        prompt = _prompt(smaller, request)
        if prompt.num_tokens <= share * room:
            return FittedContext(smaller, prompt, _dropped_sources(context, smaller))
    prompt = _prompt(smallest, request)
    if prompt.num_tokens >= context_length:
        smallest = smallest.without_notes()
        prompt = _prompt(smallest, request)
    if prompt.num_tokens >= context_length:
        raise ContextLengthExceeded(prompt.num_tokens, context_length)
    return FittedContext(smallest, prompt, _dropped_sources(context, smallest))


def _prompt(context: Context, request: GroundingRequest) -> Prompt:
    return request.model.prompt(context.format_messages(), request.tools, request.template_options)


class _SourceSizes:
    """Estimates how many tokens the prompt loses with its sources; only rendering it counts exactly."""

    def __init__(self, context: Context, count: Callable[[str], int]) -> None:
        self._count = count
        self._sizes: dict[str, int] = {}
        self._full = self._total(context)

    def saved_tokens(self, smaller: Context) -> int:
        """Return how many tokens a smaller context has less."""
        return self._full - self._total(smaller)

    def _total(self, context: Context) -> int:
        return sum(self._size(format_source(source)) for source in context.sources.values())

    def _size(self, text: str) -> int:
        if text not in self._sizes:
            self._sizes[text] = self._count(text)
        return self._sizes[text]


def _shrinkings(context: Context) -> Iterator[tuple[Context, float]]:
    """Yield smaller and smaller contexts, each with the share of the room that its prompt may take."""
    yield context, 1.0
    new = context.new_sources
    for count in range(len(new) - 1, _KEPT_BEFORE_OLD - 1, -1):
        context = context.with_new_sources(new[:count])
        yield context, 1.0
    for source in context.earlier_sources:
        context = context.without(source)
        yield context, _ROOMY
    yield context, 1.0
    new = context.new_sources
    for count in range(len(new) - 1, 0, -1):
        context = context.with_new_sources(new[:count])
        yield context, 1.0
    if new:
        assert context.new is not None
        question = context.messages[context.new].text
        for limit in _TRIMMED:
            text = best_sentences(question, new[0].text, limit)
            yield context.with_new_sources([msgspec.structs.replace(new[0], text=text)]), 1.0
        yield context.with_new_sources([]), 1.0


def _dropped_sources(full: Context, fitted: Context) -> list[DroppedSource]:
    visible = fitted.sources
    left_out_sources = [
        DroppedSource(source.label, "the conversation leaves no room for it", number)
        for number, source in full.sources.items()
        if number not in visible
    ]
    shortened_sources = [
        DroppedSource(source.label, "cut to its best sentences: there is no room for all of it", number)
        for number, source in visible.items()
        if source.text != full.sources[number].text
    ]
    return left_out_sources + shortened_sources
