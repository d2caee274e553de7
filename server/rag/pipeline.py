"""A conversation to a grounded prompt: recall its turns, search, shape what is new, fit the context, remember."""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from index.errors import CollectionNotFound
from index.search.explain import Explanation, Outcome
from index.search.retriever import QueryEmbedder, Retriever
from index.types import FileSubset, Filters, Passage, Query, is_managed
from models.llm.chat.messages import ChatMessage
from models.llm.chat.prompt import Prompt
from server.rag.context import Context, Fitted, Render, fit
from server.rag.extractive import extractive_answers
from server.rag.followups import queries_of
from server.rag.history import Turn, conversation_hashes, hash_after_reply, last_number, recalled, turn_hashes
from server.rag.memory import TurnMemory
from server.rag.merging import merged
from server.rag.options import RagOptions
from server.rag.prompts import NO_ANSWER, Source, told
from server.rag.relevance import refused, relevant, scores
from server.rag.report import RagReport
from server.rag.sentences import readable
from server.rag.snippets import SnippetSelector

_FLOOR = 0.25  # cosine; below it no sentence of a passage has to do with the question
_NO_SENTENCE = "none of its sentences is near enough to the question"
_ANSWER_TOKENS = 256  # room for an answer whose length the client leaves open


class TargetModel(NamedTuple):
    """The model that reads the passages, as far as grounding needs to know it."""

    render: Render
    count: Callable[[str], int]  # tokens of a text
    n_ctx: int  # tokens
    max_tokens: int | None  # of the answer
    max_passage_chars: int  # most characters of a passage, from its best sentence on; 0: all
    is_extractive: bool
    question_first: bool  # the question stands before the sources too

    @property
    def room(self) -> int:
        """Tokens for the prompt."""
        return self.n_ctx - min(self.max_tokens or _ANSWER_TOKENS, self.n_ctx // 2)


class Grounded(NamedTuple):
    """The sources in the prompt by number, and the answers allowed to a model that quotes: none named, any."""

    prompt: Prompt
    sources: Mapping[int, Source]
    choices: Sequence[str]
    report: RagReport
    remember: Callable[[ChatMessage], None]  # to be called with each reply that is complete


class _Found(NamedTuple):
    """All that is relevant, best first, with the text that is of interest now; `fresh` is new to the conversation."""

    relevant: list[Source]
    fresh: list[Source]


class RagPipeline:
    """`retriever` and `encoder` give what runs now, or raise `ProcessUnavailable`."""

    def __init__(
        self,
        retriever: Callable[[], Retriever],
        encoder: Callable[[], QueryEmbedder],
        memory: TurnMemory,
        top_k: int,
    ) -> None:
        self._retriever = retriever
        self._encoder = encoder
        self._memory = memory
        self._top_k = top_k
        self._briefing = SnippetSelector()
        self._allowed: Sequence[str] | None = None

    def within(self, collections: Sequence[str]) -> "RagPipeline":
        """The same, for whom there are only these collections."""
        narrower = copy.copy(self)
        narrower._allowed = tuple(collections)
        return narrower

    def _named(self, collections: Sequence[str] | None, chosen: Sequence[FileSubset] = ()) -> Sequence[str] | None:
        """Those that are searched. Of uploads, who chose them saw to it that they are the asker's. Raises
        `CollectionNotFound`."""
        if self._allowed is None:
            return collections
        uploads = {each.collection for each in chosen if is_managed(each.collection)}
        if unknown := next((name for name in collections or () if name not in {*self._allowed, *uploads}), None):
            raise CollectionNotFound(unknown, list(self._allowed))
        return self._allowed if collections is None else collections

    async def search(
        self,
        queries: Sequence[Query],
        collections: Sequence[str] | None,
        k: int,
        filters: Filters | None = None,
        chosen: Sequence[FileSubset] = (),
    ) -> list[Passage]:
        """Raises `CollectionNotFound`, `InvalidFilter`, `ProcessUnavailable`, `ProcessFailed`."""
        return await self._retriever().search(
            queries, self._encoder(), k, self._named(collections, chosen), filters, chosen
        )

    async def explain(
        self, question: str, expected: tuple[str | None, str], options: RagOptions, reader: TargetModel
    ) -> list[Explanation]:
        """What becomes of a file when this is asked: in the search, at the floor, and in the model's context. Raises
        what `ground` does."""
        options = msgspec.structs.replace(options, collections=self._named(options.collections))
        k = options.top_k or self._top_k
        search = self._retriever().explain(
            [Query(question)], self._encoder(), k, expected, options.collections, options.filters, self._allowed
        )
        found = [refused(each) for each in await search]
        if all(each.outcome != Outcome.FOUND for each in found):
            return found
        messages = [ChatMessage.of_text("user", question)]
        empty = Context(messages, {}, question_first=reader.question_first)
        _, fitted = await self._filled(messages, options, reader, empty, is_question=True)
        return [_squeezed_out(each, fitted) for each in found]

    async def ground(
        self, messages: Sequence[ChatMessage], options: RagOptions, reader: TargetModel, *, is_question: bool
    ) -> Grounded:
        """The conversation with the passages that its turns brought, and new ones before the last message if it is a
        question, rendered for the model that is to read it.

        Raises what `search` does, `ContextLengthExceeded` when the conversation is too long without any passage, and
        `TemplateError`.
        """
        options = msgspec.structs.replace(options, collections=self._named(options.collections, options.chosen))
        keys = turn_hashes(messages, _scope(options))
        context = await self._recall(messages, keys, reader)
        found, fitted = await self._filled(messages, options, reader, context, is_question=is_question)
        remember = self._remembering(fitted.context, keys)
        sources = fitted.context.sources
        at_hand = [source for source in found.relevant if source.number in sources]
        return Grounded(
            fitted.prompt,
            sources,
            _choices(at_hand) if is_question and reader.is_extractive else (),
            RagReport(
                queries=[query.text for query in queries_of(messages)] if is_question else [],
                sources=fitted.context.fresh,
                earlier=fitted.context.earlier,
                dropped=fitted.dropped,
                found_nothing=is_question and not found.relevant,
                num_tokens=sum(reader.count(told(source)) for source in fitted.context.fresh),
            ),
            remember,
        )

    async def _filled(
        self,
        messages: Sequence[ChatMessage],
        options: RagOptions,
        reader: TargetModel,
        context: Context,
        *,
        is_question: bool,
    ) -> tuple[_Found, Fitted]:
        """What is found for the last message, and the context with it."""
        found = _Found([], [])
        if is_question:
            found = await self._find(messages, options, reader, context)
            turn = Turn(sources=tuple(found.fresh), found_nothing=not found.relevant)
            context = context._replace(turns={**context.turns, len(messages) - 1: turn}, new=len(messages) - 1)
        return found, fit(context, reader.render, reader.count, reader.room, reader.n_ctx)

    async def _recall(self, messages: Sequence[ChatMessage], keys: Sequence[bytes], reader: TargetModel) -> Context:
        names = [name for _, names in conversation_hashes(messages, keys) for name in names]
        turns = recalled(messages, keys, await self._memory.recall(names)) if names else {}
        hidden = turns[max(turns)].hidden if turns else frozenset[int]()
        return Context(messages, turns, hidden=hidden, question_first=reader.question_first)

    def _remembering(self, context: Context, keys: Sequence[bytes]) -> Callable[[ChatMessage], None]:
        """Remembers the new turn at once, by its question, and by each reply to it."""
        if context.new is None:
            return lambda _: None
        turn = msgspec.structs.replace(context.turns[context.new], hidden=context.hidden)
        self._memory.remember(keys[-1], turn)
        return lambda reply: self._memory.remember(hash_after_reply(keys[-1], reply), turn)

    async def _find(
        self, messages: Sequence[ChatMessage], options: RagOptions, reader: TargetModel, context: Context
    ) -> _Found:
        question = messages[-1].text
        if not question.strip():
            return _Found([], [])
        top_k = options.top_k or self._top_k
        found = await self.search(queries_of(messages), options.collections, top_k, options.filters, options.chosen)
        scored = zip(found, scores(found), strict=True)
        passages = merged(relevant([passage for passage, score in scored if score >= options.least_score]))
        shaped = await self._shaped(question, passages, reader.max_passage_chars)
        return _sorted_out(shaped, context)

    async def _shaped(
        self, question: str, passages: list[Passage], max_passage_chars: int
    ) -> list[tuple[Passage, str]]:
        """With the text the model is given of each, best first."""
        if not max_passage_chars or not passages:
            return [(passage, readable(passage)) for passage in passages]
        texts = [readable(passage) for passage in passages]
        shaped = await self._briefing.snippets(question, texts, max_passage_chars, self._encoder().embed_queries)
        near = [(p, b) for p, b in zip(passages, shaped, strict=True) if b.similarity >= _FLOOR]
        # A model that needs its passages brief also leans on the first one: the most telling sentence leads.
        near.sort(key=lambda each: -(each[0].score + each[1].answers))
        return [(passage, each.text) for passage, each in near]


def _squeezed_out(explanation: Explanation, fitted: Fitted) -> Explanation:
    """What was found and is not in the prompt had no room there, or nothing for a model that reads single sentences."""
    file = f"{explanation.collection}/{explanation.path}"
    if explanation.outcome != Outcome.FOUND or any(s.passage.file == file for s in fitted.context.sources.values()):
        return explanation
    reasons = [dropped.reason for dropped in fitted.dropped if dropped.label.startswith(file)]
    reason = f"it was found, and not given to the model: {(reasons or [_NO_SENTENCE])[0]}"
    return msgspec.structs.replace(explanation, outcome=Outcome.NO_ROOM, reason=reason)


def _scope(options: RagOptions) -> str:
    collections = sorted(options.collections) if options.collections is not None else ["*"]
    return "\n".join(collections) + (repr(options.filters) if options.filters else "") + _digest(options.chosen)


def _digest(chosen: Sequence[FileSubset]) -> str:
    """The same for the same files."""
    files = sorted((each.collection, sorted(each.paths)) for each in chosen)
    return hashlib.sha256(msgspec.json.encode(files)).hexdigest() if files else ""


def _sorted_out(shaped: Sequence[tuple[Passage, str]], context: Context) -> _Found:
    """What the conversation has already is not said twice; numbers go on from those it ever had."""
    present = context.sources.values()
    number = last_number(context.messages, context.turns)
    relevant: list[Source] = []
    fresh: list[Source] = []
    for passage, text in shaped:
        known = next((source.number for source in present if _says(source, passage, text)), None)
        if known is None:
            number += 1
            fresh.append(Source(number, passage, text))
        relevant.append(Source(known or number, passage, text))
    return _Found(relevant, fresh)


def _says(source: Source, passage: Passage, text: str) -> bool:
    other = source.passage
    return (other.collection, other.path) == (passage.collection, passage.path) and text in source.text


def _choices(relevant: Sequence[Source]) -> Sequence[str]:
    """For a model that quotes: a sentence of the source that answers best. Which source that is, and whether any does,
    is found out by meaning and words no worse than by a model so small (`scripts/eval/reader_model.py --brief 300`:
    with all sources to choose from, and a refusal, right in 75 % of cases instead of 77)."""
    return extractive_answers(relevant[:1]) or [NO_ANSWER]
