"""A conversation with its sources in it, and what gives way when it is longer than the model's context.

Passages give way, a message never does. First the new turn's weakest passages, then those of the oldest turns, several
at once: what a conversation begins with is best left as it was, because it is in memory. Then the rest of the new
ones, the last of them cut to its best sentences first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from models.errors import ContextLengthExceeded
from models.llm.chat.messages import ChatMessage, replace_text
from models.llm.chat.prompt import Prompt
from server.rag.history import Turn
from server.rag.prompts import Source, system_message, told, user_turn
from server.rag.report import DroppedSource
from server.rag.sentences import best_sentences

_KEPT_BEFORE_OLD = 3  # of the new turn's passages: as many stay until the old ones have gone
_ROOMY = 0.75  # of the context, when old passages go: so that the next turns need not take any
_TRIMMED = (600, 250)  # characters of the last new passage

Render = Callable[[Sequence[ChatMessage]], Prompt]


class Context(NamedTuple):
    """`turns` by the index of the user's message, whatever `hidden` says; the new turn, if there is one, at `new`.
    `question_first`: each question stands before its sources too."""

    messages: Sequence[ChatMessage]
    turns: Mapping[int, Turn]
    new: int | None = None
    hidden: frozenset[int] = frozenset()
    question_first: bool = False

    @property
    def sources(self) -> dict[int, Source]:
        """All that are in the prompt, by number."""
        return {source.number: source for at in sorted(self.turns) for source in self._shown(at)}

    @property
    def fresh(self) -> tuple[Source, ...]:
        """Those of the new turn."""
        return () if self.new is None else self.turns[self.new].sources

    def rendered(self) -> list[ChatMessage]:
        """What the model reads: each turn's sources in front of its question."""
        messages = [self._message(at, message) for at, message in enumerate(self.messages)]
        return system_message(messages) if self.turns else messages

    def with_fresh(self, sources: Sequence[Source]) -> "Context":
        assert self.new is not None
        turn = msgspec.structs.replace(self.turns[self.new], sources=tuple(sources))
        return self._replace(turns={**self.turns, self.new: turn})

    def without(self, source: Source) -> "Context":
        return self._replace(hidden=self.hidden | {source.number})

    def without_notes(self) -> "Context":
        """Earlier turns no longer say that nothing was found for them."""
        noted = {at: msgspec.structs.replace(turn, found_nothing=False) for at, turn in self.turns.items()}
        if self.new is not None:
            noted[self.new] = self.turns[self.new]
        return self._replace(turns=noted)

    @property
    def earlier(self) -> list[Source]:
        """Sources of the turns before, the oldest first."""
        return [source for at in sorted(self.turns) if at != self.new for source in self._shown(at)]

    def _shown(self, at: int) -> list[Source]:
        return [source for source in self.turns[at].sources if source.number not in self.hidden]

    def _message(self, at: int, message: ChatMessage) -> ChatMessage:
        if at not in self.turns:
            return message
        found_nothing = self.turns[at].found_nothing
        text = user_turn(message.text, self._shown(at), found_nothing=found_nothing, question_first=self.question_first)
        return replace_text(message, text)


class Fitted(NamedTuple):
    context: Context
    prompt: Prompt
    dropped: list[DroppedSource]


def fit(context: Context, render: Render, count: Callable[[str], int], room: int, n_ctx: int) -> Fitted:
    """The context with as much of its sources as leaves `room` tokens or less for the prompt.

    Without any source the prompt may take all but one of `n_ctx`. Raises `ContextLengthExceeded` beyond.
    """
    prompt = render(context.rendered())
    size, sizes = len(prompt.tokens), _Sizes(context, count)
    smallest = context
    for smaller, share in _shrinkings(context):
        smallest = smaller
        if size - sizes.saved(smaller) > share * room:
            continue
        prompt = render(smaller.rendered())
        if len(prompt.tokens) <= share * room:
            return Fitted(smaller, prompt, _dropped(context, smaller))
    prompt = render(smallest.rendered())
    if len(prompt.tokens) >= n_ctx:
        smallest = smallest.without_notes()
        prompt = render(smallest.rendered())
    if len(prompt.tokens) >= n_ctx:
        raise ContextLengthExceeded(len(prompt.tokens), n_ctx)
    return Fitted(smallest, prompt, _dropped(context, smallest))


class _Sizes:
    """What is spared when sources go, in tokens, about: only rendering tells exactly."""

    def __init__(self, context: Context, count: Callable[[str], int]) -> None:
        self._count = count
        self._sizes: dict[str, int] = {}
        self._all = self._total(context)

    def saved(self, smaller: Context) -> int:
        return self._all - self._total(smaller)

    def _total(self, context: Context) -> int:
        return sum(self._size(told(source)) for source in context.sources.values())

    def _size(self, text: str) -> int:
        if text not in self._sizes:
            self._sizes[text] = self._count(text)
        return self._sizes[text]


def _shrinkings(context: Context) -> Iterator[tuple[Context, float]]:
    """Smaller and smaller, each with the share of the room it may take."""
    yield context, 1.0
    fresh = context.fresh
    for count in range(len(fresh) - 1, _KEPT_BEFORE_OLD - 1, -1):
        context = context.with_fresh(fresh[:count])
        yield context, 1.0
    for source in context.earlier:
        context = context.without(source)
        yield context, _ROOMY
    yield context, 1.0
    fresh = context.fresh
    for count in range(len(fresh) - 1, 0, -1):
        context = context.with_fresh(fresh[:count])
        yield context, 1.0
    if fresh:
        assert context.new is not None
        question = context.messages[context.new].text
        for limit in _TRIMMED:
            text = best_sentences(question, fresh[0].text, limit)
            yield context.with_fresh([msgspec.structs.replace(fresh[0], text=text)]), 1.0
        yield context.with_fresh([]), 1.0


def _dropped(full: Context, fitted: Context) -> list[DroppedSource]:
    kept = fitted.sources
    gone = [
        DroppedSource(source.label, "the conversation leaves no room for it", number)
        for number, source in full.sources.items()
        if number not in kept
    ]
    cut = [
        DroppedSource(source.label, "cut to its best sentences: there is no room for all of it", number)
        for number, source in kept.items()
        if source.text != full.sources[number].text
    ]
    return gone + cut
