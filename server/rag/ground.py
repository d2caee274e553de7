"""A conversation to a grounded prompt: search, shape the passages, put them before the question, fit the context."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from index.retriever import Retriever
from index.types import Passage
from models.encoder.client import EncoderClient
from models.errors import ContextLengthExceeded
from models.llm.chat_template import ChatMessage
from models.llm.language_model import Prompt
from server.rag.brief import briefs
from server.rag.prompts import SYSTEM, Source, user_turn
from server.rag.quotes import quotes

_FLOOR = 0.25  # cosine; below it no sentence of a passage has to do with the question
_ANSWER_TOKENS = 256  # room for an answer whose length the client leaves open


Render = Callable[[Sequence[ChatMessage]], Prompt]


class Grounded(NamedTuple):
    """The sources in the prompt by number, and the answers allowed to a model that quotes: none named, any."""

    prompt: Prompt
    sources: dict[int, Source]
    choices: Sequence[str]


class Reader(NamedTuple):
    """The model that reads the passages, as far as grounding needs to know it."""

    render: Render
    n_ctx: int  # tokens
    max_tokens: int | None  # of the answer
    brief: int  # most characters of a passage, from its best sentence on; 0: all
    quotes_only: bool


class Grounder:
    """`retriever` and `encoder` give what runs now, or raise `ProcessUnavailable`."""

    def __init__(self, retriever: Callable[[], Retriever], encoder: Callable[[], EncoderClient], top_k: int) -> None:
        self._retriever = retriever
        self._encoder = encoder
        self._top_k = top_k

    async def search(self, question: str, collections: Sequence[str] | None, k: int) -> list[Passage]:
        """Raises `CollectionNotFound`, `ProcessUnavailable`, `ProcessFailed`."""
        return await self._retriever().search(question, self._encoder(), k, collections)

    async def ground(
        self,
        messages: Sequence[ChatMessage],
        collections: Sequence[str] | None,
        reader: Reader,
    ) -> Grounded:
        """The last message, the user's, with passages before it, rendered for the model that is to read it.

        Raises what `search` does, `ContextLengthExceeded` when the conversation is too long without any passage, and
        `TemplateError`.
        """
        question = messages[-1].content
        passages = await self.search(question, collections, self._top_k) if question.strip() else []
        sources = await self._sources(question, passages, reader.brief)
        return _fit(messages, sources, reader)

    async def _sources(self, question: str, passages: list[Passage], brief: int) -> list[Source]:
        if not brief or not passages:
            return [Source(number, passage, passage.shown) for number, passage in enumerate(passages, 1)]
        shaped = await briefs(question, [p.shown for p in passages], brief, self._encoder().embed_queries)
        told = [(p, text, likeness) for p, (text, likeness) in zip(passages, shaped, strict=True) if likeness >= _FLOOR]
        # A model that needs its passages brief also leans on the first one: the most telling sentence leads.
        told.sort(key=lambda each: -(each[0].score + each[2]))
        return [Source(number, passage, text) for number, (passage, text, _) in enumerate(told, 1)]


def _fit(messages: Sequence[ChatMessage], sources: list[Source], reader: Reader) -> Grounded:
    """Drops the weakest passages until prompt and answer fit; a user's turn is never dropped."""
    room = reader.n_ctx - min(reader.max_tokens or _ANSWER_TOKENS, reader.n_ctx // 2)
    for count in range(len(sources), -1, -1):
        kept = sources[:count]
        prompt = reader.render(_with_sources(messages, kept))
        size = len(prompt.tokens)
        if size <= room or (not kept and size < reader.n_ctx):
            choices = quotes(kept) if kept and reader.quotes_only else ()
            return Grounded(prompt, {source.number: source for source in kept}, choices)
    raise ContextLengthExceeded(size, reader.n_ctx)


def _with_sources(messages: Sequence[ChatMessage], sources: Sequence[Source]) -> list[ChatMessage]:
    """The static instruction first, unless the client has its own; the sources in the turn they belong to."""
    has_system = any(message.role == "system" for message in messages)
    turn = ChatMessage("user", user_turn(messages[-1].content, sources))
    return [*([] if has_system else [ChatMessage("system", SYSTEM)]), *messages[:-1], turn]
