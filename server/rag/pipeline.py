"""Retrieval-augmented generation: a conversation becomes a prompt with the sources that its questions brought."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from index.types import FileSubset, Filters, SearchScope
from models.llm.chat.messages import ChatMessage
from models.llm.chat.prompt import Prompt
from server.rag.context import Context, FittedContext, fit
from server.rag.extractive import extractive_choices
from server.rag.followups import search_queries
from server.rag.history import Turn, TurnRecord, conversation_hashes, hash_after_reply, known_turns, turn_hashes
from server.rag.memory import TurnMemory
from server.rag.prompts import Source, format_source
from server.rag.report import RagReport
from server.rag.request import GroundingRequest
from server.rag.sources import SourceSelection, SourceSelector
from server.resources.search import SearchService


class GroundedPrompt(NamedTuple):
    """A prompt and the sources in it, by number.

    `choices` are the replies that an extractive model may choose from. `record` is None where the last message is no
    question.
    """

    prompt: Prompt
    sources: Mapping[int, Source]
    choices: Sequence[str]
    report: RagReport
    record: TurnRecord | None


class RagPipeline:
    """Grounds conversations in what `search` finds, and remembers in `memory` what each turn was grounded on."""

    def __init__(self, search: SearchService, memory: TurnMemory, top_k: int) -> None:
        self._search = search
        self._memory = memory
        self._top_k = top_k
        self._selector = SourceSelector(search.embed_queries)

    def seen_by(self, search: SearchService) -> "RagPipeline":
        """Return this pipeline over the search of one principal."""
        restricted = copy.copy(self)
        restricted._search = search
        return restricted

    async def ground(self, request: GroundingRequest) -> GroundedPrompt:
        """Return the conversation's prompt, with the sources of its earlier turns and new ones for its question.

        Raises what `SearchService.search` does, `ContextLengthExceeded` when the conversation is too long even
        without sources, and `TemplateError`.
        """
        scope = self._search.restrict(request.scope)
        keys = turn_hashes(request.messages, _scope_key(scope, request.options.filters))
        context = await self._recall(request, keys)
        selection, fitted = await self.add_sources(request, context)
        record = self._remember_question(fitted.context, keys)
        return GroundedPrompt(
            prompt=fitted.prompt,
            sources=fitted.context.sources,
            choices=extractive_choices(selection.relevant, fitted.context.sources) if request.is_question else (),
            report=_report(request, selection, fitted),
            record=record,
        )

    def remember(self, record: TurnRecord, reply: ChatMessage) -> None:
        """Remember what a turn was grounded on, by a complete reply to it."""
        self._memory.remember(hash_after_reply(record.key, reply), record.turn)

    async def add_sources(self, request: GroundingRequest, context: Context) -> tuple[SourceSelection, FittedContext]:
        """Search for the request's question, and fit its sources into the model's context. Remembers nothing."""
        selection = SourceSelection()
        if request.is_question:
            selection = await self._find_sources(request, context)
            turn = Turn(sources=tuple(selection.new), found_nothing=not selection.relevant)
            new = len(request.messages) - 1
            context = context._replace(turns={**context.turns, new: turn}, new=new)
        return selection, fit(context, request)

    async def _find_sources(self, request: GroundingRequest, context: Context) -> SourceSelection:
        if not request.question.strip():
            return SourceSelection()
        options = request.options
        passages = await self._search.search(
            search_queries(request.messages), self.num_passages(request), request.scope, options.filters
        )
        return await self._selector.select(
            passages, context, request.question, options.least_score, request.layout.max_passage_chars
        )

    def num_passages(self, request: GroundingRequest) -> int:
        """The number of passages that are searched for."""
        return request.options.top_k or self._top_k

    async def _recall(self, request: GroundingRequest, keys: Sequence[bytes]) -> Context:
        """Return the conversation with the sources that its earlier turns are known to have had."""
        messages = request.messages
        hashes = [key for _, keys_of_turn in conversation_hashes(messages, keys) for key in keys_of_turn]
        turns = known_turns(messages, keys, await self._memory.recall(hashes)) if hashes else {}
        hidden = turns[max(turns)].hidden if turns else frozenset[int]()
        return Context(messages, turns, hidden=hidden, question_first=request.layout.question_first)

    def _remember_question(self, context: Context, keys: Sequence[bytes]) -> TurnRecord | None:
        """Remember the new turn by its question, so that a reply that is cut off does not lose its sources."""
        if context.new is None:
            return None
        turn = msgspec.structs.replace(context.turns[context.new], hidden=context.hidden)
        self._memory.remember(keys[-1], turn)
        return TurnRecord(keys[-1], turn)


def _report(request: GroundingRequest, selection: SourceSelection, fitted: FittedContext) -> RagReport:
    new = fitted.context.new_sources
    return RagReport(
        queries=[query.text for query in search_queries(request.messages)] if request.is_question else [],
        sources=new,
        earlier=fitted.context.earlier_sources,
        dropped=fitted.dropped,
        found_nothing=request.is_question and not selection.relevant,
        num_tokens=sum(request.model.count_tokens(format_source(source)) for source in new),
    )


def _scope_key(scope: SearchScope, filters: Filters | None) -> str:
    """Return the same text for scopes in which the same may be found."""
    collections = sorted(scope.collections) if scope.collections is not None else ["*"]
    return "\n".join(collections) + (repr(filters) if filters else "") + _digest(scope.subsets)


def _digest(subsets: Sequence[FileSubset]) -> str:
    files = sorted((subset.collection, sorted(subset.paths)) for subset in subsets)
    return hashlib.sha256(msgspec.json.encode(files)).hexdigest() if files else ""
