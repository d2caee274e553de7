"""A conversation to a grounded prompt: search, shape the passages, put them before the question, fit the context."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from index.retriever import Retriever
from index.types import Passage
from models.encoder.client import EncoderClient
from models.errors import ContextLengthExceeded
from models.llm.chat_template import ChatMessage
from models.llm.language_model import LanguageModel, Prompt
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


class Grounder:
    """`retriever` and `encoder` give what runs now, or raise `ProcessUnavailable`."""

    def __init__(
        self,
        retriever: Callable[[], Retriever],
        encoder: Callable[[], EncoderClient],
        language_model: LanguageModel,
        top_k: int,
        brief: int,
        quotes_only: bool,
    ) -> None:
        self._retriever = retriever
        self._encoder = encoder
        self._language_model = language_model
        self._top_k = top_k
        self._brief = brief
        self._quotes_only = quotes_only

    async def search(self, question: str, collections: Sequence[str] | None, k: int) -> list[Passage]:
        """Raises `CollectionNotFound`, `ProcessUnavailable`, `ProcessFailed`."""
        return await self._retriever().search(question, self._encoder(), k, collections)

    async def ground(
        self,
        messages: Sequence[ChatMessage],
        collections: Sequence[str] | None,
        max_tokens: int | None,
        render: Render,
    ) -> Grounded:
        """The last message, the user's, with passages before it, rendered.

        Raises what `search` does, `ContextLengthExceeded` when the conversation is too long without any passage, and
        `TemplateError`.
        """
        question = messages[-1].content
        passages = await self.search(question, collections, self._top_k) if question.strip() else []
        sources = await self._sources(question, passages)
        return self._fit(messages, sources, max_tokens, render)

    async def _sources(self, question: str, passages: list[Passage]) -> list[Source]:
        if not self._brief or not passages:
            return [Source(number, passage, passage.text) for number, passage in enumerate(passages, 1)]
        shaped = await briefs(question, [p.text for p in passages], self._brief, self._encoder().embed_queries)
        told = [(p, text, likeness) for p, (text, likeness) in zip(passages, shaped, strict=True) if likeness >= _FLOOR]
        # A model that needs its passages brief also leans on the first one: the most telling sentence leads.
        told.sort(key=lambda each: -(each[0].score + each[2]))
        return [Source(number, passage, text) for number, (passage, text, _) in enumerate(told, 1)]

    def _fit(
        self, messages: Sequence[ChatMessage], sources: list[Source], max_tokens: int | None, render: Render
    ) -> Grounded:
        """Drops the weakest passages until prompt and answer fit; a user's turn is never dropped."""
        n_ctx = self._language_model.n_ctx
        room = n_ctx - min(max_tokens or _ANSWER_TOKENS, n_ctx // 2)
        for count in range(len(sources), -1, -1):
            kept = sources[:count]
            prompt = render(_with_sources(messages, kept))
            size = len(prompt.tokens)
            if size <= room or (not kept and size < n_ctx):
                choices = quotes(kept) if kept and self._quotes_only else ()
                return Grounded(prompt, {source.number: source for source in kept}, choices)
        raise ContextLengthExceeded(size, n_ctx)


def _with_sources(messages: Sequence[ChatMessage], sources: Sequence[Source]) -> list[ChatMessage]:
    """The static instruction first, unless the client has its own; the sources in the turn they belong to."""
    has_system = any(message.role == "system" for message in messages)
    turn = ChatMessage("user", user_turn(messages[-1].content, sources))
    return [*([] if has_system else [ChatMessage("system", SYSTEM)]), *messages[:-1], turn]
