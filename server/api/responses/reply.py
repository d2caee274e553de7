"""/v1/responses: an answer in the making as the events of a stream, and the response that they add up to."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
from msgspec import UNSET

from models.llm.chat.events import Content, EndReason, Reasoning, ToolCallArguments, ToolCallStart, TurnEnd
from models.llm.chat.logprobs import Candidate, ScoredToken
from server.api.chat.wire import TokenLogprob, TopLogprob
from server.api.responses.request import RESULTS, file_search_of, has_logprobs
from server.api.responses.wire import (
    Annotation,
    ArgumentsDelta,
    ArgumentsDone,
    Completed,
    Created,
    Cut,
    ErrorEvent,
    Failed,
    FileCitation,
    FileSearchCall,
    FileSearchTool,
    FunctionCall,
    FunctionTool,
    Incomplete,
    InProgress,
    InputTokensDetails,
    ItemAdded,
    ItemDone,
    OutputItem,
    OutputMessage,
    OutputText,
    OutputTokensDetails,
    PartAdded,
    PartDone,
    Queued,
    ReasoningItem,
    ReasoningOptions,
    ResponseError,
    ResponseObject,
    ResponseRequest,
    ResponseUsage,
    SearchBegun,
    Searched,
    Searching,
    SearchResult,
    StreamEvent,
    SummaryAdded,
    SummaryDelta,
    SummaryDone,
    SummaryText,
    SummaryTextDone,
    TextAnnotated,
    TextDelta,
    TextDone,
    TextFormat,
    TextOptions,
    Tool,
    UrlCitation,
)
from server.api.shared.rag import format_source_list, rag_reply
from server.errors import RequestError
from server.files.folders import file_id_of
from server.files.holdings import Hit
from server.files.records import new_id
from server.generation.stream import AnswerEvent, Cited, GenerationStream
from server.http.links import passage_url
from server.http.problems import Problem
from server.rag.citations import Citation
from server.settings.settings import GROUNDED

_ENDS = {"completed": Completed, "incomplete": Cut, "failed": Failed, "cancelled": Failed}


def begun(data: ResponseRequest, *, is_queued: bool = False) -> ResponseObject:
    """The response before there is anything of it."""
    text = data.text or TextOptions()
    return ResponseObject(
        id=new_id("resp").replace("-", "_"),
        created_at=int(time.time()),
        status="queued" if is_queued else "in_progress",
        model=data.model or GROUNDED,
        output=[],
        instructions=data.instructions,
        tools=[_tool(tool) for tool in data.tools or ()],
        tool_choice=data.tool_choice or "auto",
        parallel_tool_calls=data.parallel_tool_calls is not False,
        text=TextOptions(text.format or TextFormat("text"), text.verbosity),
        reasoning=data.reasoning or ReasoningOptions(),
        temperature=data.temperature,
        top_p=data.top_p,
        top_logprobs=data.top_logprobs,
        max_output_tokens=data.max_output_tokens,
        max_tool_calls=data.max_tool_calls,
        previous_response_id=data.previous_response_id,
        truncation=data.truncation or "disabled",
        background=bool(data.background),
        store=data.store is not False,
        metadata=data.metadata or {},
        user=data.user,
    )


def _tool(tool: Tool) -> FunctionTool | FileSearchTool:
    if tool.type == "function":
        return FunctionTool(
            name=tool.name or "", description=tool.description, parameters=tool.parameters, strict=tool.strict
        )
    return FileSearchTool(
        vector_store_ids=tool.vector_store_ids or [],
        max_num_results=UNSET if tool.max_num_results is None else tool.max_num_results,
        filters=tool.filters,
        ranking_options=UNSET if tool.ranking_options is None else tool.ranking_options,
    )


def failed(response: ResponseObject, problem: Problem) -> ResponseObject:
    """Codes are those that OpenAI's clients know."""
    code = "rate_limit_exceeded" if problem.status == 429 else "server_error"
    error = ResponseError("invalid_prompt" if problem.status == 400 else code, problem.detail.message)
    return msgspec.structs.replace(response, status="failed", error=error)


class ResponseReply:
    """`hits`: what of the prompt's sources is in the vector stores that were asked for."""

    def __init__(
        self,
        data: ResponseRequest,
        response: ResponseObject,
        answers: GenerationStream,
        hits: Sequence[Hit],
        base_url: str,
    ) -> None:
        self.response = response  # as far as it has come
        self._answers = answers
        self._hits = hits
        self._base_url = base_url
        self._has_search = file_search_of(data) is not None
        self._has_results = RESULTS in (data.include or ())
        self._has_logprobs = has_logprobs(data)
        self._items: list[OutputItem] = []
        self._message: int | None = None  # the one that is open, by its place among the items
        self._reasoning: int | None = None
        self._calls: dict[int, int] = {}  # by the call's number
        self._open_call: int | None = None
        self._num_events = 0

    async def events(self) -> AsyncIterator[StreamEvent]:
        """All but the last, which is `ending`: the response can be kept before it is told as complete."""
        for told in self._opening():
            yield self._numbered(told)
        async for _, event in self._answers.events():
            for told in self._told(event):
                yield self._numbered(told)

    def ending(self) -> StreamEvent:
        return self._numbered(_ENDS[self.response.status](response=self.response))

    def failing(self, problem: Problem) -> Iterator[StreamEvent]:
        """Instead of the rest."""
        detail = problem.detail
        self.response = failed(msgspec.structs.replace(self.response, output=list(self._items)), problem)
        yield self._numbered(ErrorEvent(message=detail.message, code=detail.code or "server_error", param=detail.param))
        yield self.ending()

    async def whole(self) -> ResponseObject:
        async for _ in self.events():
            pass
        return self.response

    async def aclose(self) -> None:
        """Cancels what is left of it. Idempotent."""
        await self._answers.aclose()

    def _numbered(self, event: StreamEvent) -> StreamEvent:
        numbered = msgspec.structs.replace(event, sequence_number=self._num_events)
        self._num_events += 1
        return numbered

    def _opening(self) -> Iterator[StreamEvent]:
        yield Created(response=self.response)
        yield InProgress(response=self.response)
        grounding = self._answers.grounding
        if self._has_search and grounding is not None and grounding.report.queries:
            id, at = _item_id("fs"), 0
            yield self._added(FileSearchCall(id=id, status="in_progress", queries=[]))
            yield SearchBegun(item_id=id, output_index=at)
            yield Searching(item_id=id, output_index=at)
            yield Searched(item_id=id, output_index=at)
            results = [_result(hit) for hit in self._hits] if self._has_results else None
            queries = list(grounding.report.queries)
            yield self._done(at, FileSearchCall(id=id, status="completed", queries=queries, results=results))

    def _told(self, event: AnswerEvent) -> Iterator[StreamEvent]:
        match event:
            case Reasoning(text):
                yield from self._reasoned(text)
            case Content(text, tokens):
                yield from self._close_calls()
                yield from self._close_reasoning()
                yield from self._said(text, self._logprobs(tokens))
            case ToolCallStart(number, call_id, name):
                yield from self._close_reasoning()
                yield from self._close_calls()
                if self._answers.grounding is None:  # else its citations are told when all of the text is there
                    yield from self._close_message()
                call = FunctionCall(id=_item_id("fc"), call_id=call_id, name=name, arguments="", status="in_progress")
                yield self._added(call)
                self._calls[number] = self._open_call = len(self._items) - 1
            case ToolCallArguments(number, text):
                yield from self._argued(self._calls[number], text)
            case Cited():
                yield from self._cited(event)
            case TurnEnd():
                yield from self._ended(event)

    def _added(self, item: OutputItem) -> StreamEvent:
        self._items.append(item)
        return ItemAdded(output_index=len(self._items) - 1, item=item)

    def _done(self, at: int, item: OutputItem) -> StreamEvent:
        self._items[at] = item
        return ItemDone(output_index=at, item=item)

    # Reasoning

    def _reasoned(self, text: str) -> Iterator[StreamEvent]:
        if self._reasoning is None:
            id, at = _item_id("rs"), len(self._items)
            yield self._added(ReasoningItem(id=id, status="in_progress", summary=[]))
            yield SummaryAdded(item_id=id, output_index=at, part=SummaryText(""))
            self._items[at] = ReasoningItem(id=id, status="in_progress", summary=[SummaryText("")])
            self._reasoning = at
        item = self._items[self._reasoning]
        assert isinstance(item, ReasoningItem)
        self._items[self._reasoning] = msgspec.structs.replace(item, summary=[SummaryText(item.summary[0].text + text)])
        yield SummaryDelta(item_id=item.id, output_index=self._reasoning, delta=text)

    def _close_reasoning(self) -> Iterator[StreamEvent]:
        at, self._reasoning = self._reasoning, None
        if at is None:
            return
        item = self._items[at]
        assert isinstance(item, ReasoningItem)
        part = item.summary[0]
        yield SummaryTextDone(item_id=item.id, output_index=at, text=part.text)
        yield SummaryDone(item_id=item.id, output_index=at, part=part)
        yield self._done(at, msgspec.structs.replace(item, status="completed"))

    # Text

    def _said(self, text: str, logprobs: list[TokenLogprob]) -> Iterator[StreamEvent]:
        yield from self._open_message()
        at, item, part = self._current()
        part = msgspec.structs.replace(part, text=part.text + text, logprobs=[*part.logprobs, *logprobs])
        self._items[at] = msgspec.structs.replace(item, content=[part])
        yield TextDelta(item_id=item.id, output_index=at, delta=text, logprobs=logprobs)

    def _open_message(self) -> Iterator[StreamEvent]:
        if self._message is not None:
            return
        id, at, part = _item_id("msg"), len(self._items), OutputText(text="")
        yield self._added(OutputMessage(id=id, status="in_progress", content=[]))
        yield PartAdded(item_id=id, output_index=at, part=part)
        self._items[at] = OutputMessage(id=id, status="in_progress", content=[part])
        self._message = at

    def _current(self) -> tuple[int, OutputMessage, OutputText]:
        assert self._message is not None
        item = self._items[self._message]
        assert isinstance(item, OutputMessage)
        return self._message, item, item.content[0]

    def _cited(self, cited: Cited) -> Iterator[StreamEvent]:
        grounding = self._answers.grounding
        assert grounding is not None, "only what is grounded is cited"
        if cited.is_listed:
            yield from self._said(format_source_list(grounding, cited.citations, self._base_url), [])
        at, item, part = self._current()
        annotations = [self._annotation(each) for each in cited.citations] if cited.is_annotated else []
        for number, annotation in enumerate(annotations):
            yield TextAnnotated(item_id=item.id, output_index=at, annotation_index=number, annotation=annotation)
        self._items[at] = msgspec.structs.replace(
            item, content=[msgspec.structs.replace(part, annotations=annotations)]
        )

    def _annotation(self, citation: Citation) -> Annotation:
        assert self._answers.grounding is not None
        source = self._answers.grounding.sources[citation.number]
        passage = source.passage
        url = passage_url(self._base_url, passage)
        if not self._has_search:
            return UrlCitation(
                url=url,
                title=source.label,
                start_index=citation.start,
                end_index=citation.end,
                quote=citation.quote,
            )
        return FileCitation(
            file_id=file_id_of(passage.collection, passage.path, passage.document_id),
            filename=passage.display_path.rpartition("/")[2],
            index=citation.start,
            quote=citation.quote,
            url=url,
        )

    def _close_message(self, *, is_cut: bool = False) -> Iterator[StreamEvent]:
        if self._message is None:
            return
        at, item, part = self._current()
        self._message = None
        yield TextDone(item_id=item.id, output_index=at, text=part.text, logprobs=part.logprobs)
        yield PartDone(item_id=item.id, output_index=at, part=part)
        yield self._done(at, msgspec.structs.replace(item, status="incomplete" if is_cut else "completed"))

    # Calls

    def _argued(self, at: int, text: str) -> Iterator[StreamEvent]:
        item = self._items[at]
        assert isinstance(item, FunctionCall)
        self._items[at] = msgspec.structs.replace(item, arguments=item.arguments + text)
        yield ArgumentsDelta(item_id=item.id, output_index=at, delta=text)

    def _close_calls(self) -> Iterator[StreamEvent]:
        at, self._open_call = self._open_call, None
        if at is None:
            return
        item = self._items[at]
        assert isinstance(item, FunctionCall)
        yield ArgumentsDone(item_id=item.id, output_index=at, arguments=item.arguments, name=item.name)
        yield self._done(at, msgspec.structs.replace(item, status="completed"))

    # The end

    def _ended(self, end: TurnEnd) -> Iterator[StreamEvent]:
        is_cut = end.reason is EndReason.LENGTH
        yield from self._close_reasoning()
        yield from self._close_calls()
        if not any(isinstance(item, OutputMessage | FunctionCall) for item in self._items):
            yield from self._open_message()  # an answer without a word is one
        yield from self._close_message(is_cut=is_cut)
        grounding = self._answers.grounding
        self.response = msgspec.structs.replace(
            self.response,
            status="incomplete" if is_cut else "completed",
            incomplete_details=Incomplete("max_output_tokens") if is_cut else None,
            completed_at=int(time.time()),
            output=list(self._items),
            usage=_usage(self._answers.num_prompt, end),
            rag=rag_reply(grounding.report, self._base_url) if grounding else UNSET,
        )

    def _logprobs(self, tokens: Sequence[ScoredToken]) -> list[TokenLogprob]:
        return [_logprob(token) for token in tokens] if self._has_logprobs else []


def _item_id(kind: str) -> str:
    return new_id(kind).replace("-", "_")


def _usage(num_prompt: int, end: TurnEnd) -> ResponseUsage:
    return ResponseUsage(
        num_prompt,
        InputTokensDetails(end.num_cached, 0),
        end.num_generated,
        OutputTokensDetails(end.num_reasoning),
        num_prompt + end.num_generated,
    )


def _result(hit: Hit) -> SearchResult:
    passage = hit.passage
    return SearchResult(hit.file_id, hit.filename, round(passage.score, 4), passage.shown, dict(hit.attributes))


def _logprob(token: ScoredToken) -> TokenLogprob:
    top = [TopLogprob(*_candidate(candidate)) for candidate in token.top]
    return TokenLogprob(*_candidate(token.chosen), top)


def _candidate(candidate: Candidate) -> tuple[str, float, list[int]]:
    return candidate.text, candidate.logprob, list(candidate.piece)


# What was made before, told again


def replayed(response: ResponseObject, after: int = -1) -> list[StreamEvent]:
    """The events of a response that is over and was made in the background, always the same, behind the `after`th."""
    events = [*beginning(response), *_replayed_items(response.output), _ENDS[response.status](response=response)]
    numbered = [msgspec.structs.replace(event, sequence_number=at) for at, event in enumerate(events)]
    return numbered[after + 1 :]


def beginning(response: ResponseObject) -> list[StreamEvent]:
    """What is certain of a response in the background as soon as it is asked for."""
    bare = msgspec.structs.replace(
        response,
        status="queued",
        output=[],
        error=None,
        incomplete_details=None,
        completed_at=None,
        usage=None,
        rag=UNSET,
    )
    events = [
        Created(response=bare),
        Queued(response=bare),
        InProgress(response=msgspec.structs.replace(bare, status="in_progress")),
    ]
    return [msgspec.structs.replace(event, sequence_number=at) for at, event in enumerate(events)]


def _replayed_items(output: Sequence[OutputItem]) -> Iterator[StreamEvent]:
    for at, item in enumerate(output):
        id = item.id
        match item:
            case FileSearchCall():
                yield ItemAdded(output_index=at, item=FileSearchCall(id=id, status="in_progress", queries=[]))
                yield SearchBegun(item_id=id, output_index=at)
                yield Searching(item_id=id, output_index=at)
                yield Searched(item_id=id, output_index=at)
            case ReasoningItem(summary=[part]):
                yield ItemAdded(output_index=at, item=ReasoningItem(id=id, status="in_progress", summary=[]))
                yield SummaryAdded(item_id=id, output_index=at, part=SummaryText(""))
                yield SummaryDelta(item_id=id, output_index=at, delta=part.text)
                yield SummaryTextDone(item_id=id, output_index=at, text=part.text)
                yield SummaryDone(item_id=id, output_index=at, part=part)
            case OutputMessage(content=[text]):
                yield ItemAdded(output_index=at, item=OutputMessage(id=id, status="in_progress", content=[]))
                yield PartAdded(item_id=id, output_index=at, part=OutputText(text=""))
                if text.text:
                    yield TextDelta(item_id=id, output_index=at, delta=text.text, logprobs=text.logprobs)
                for number, annotation in enumerate(text.annotations):
                    yield TextAnnotated(item_id=id, output_index=at, annotation_index=number, annotation=annotation)
                yield TextDone(item_id=id, output_index=at, text=text.text, logprobs=text.logprobs)
                yield PartDone(item_id=id, output_index=at, part=text)
            case FunctionCall():
                yield ItemAdded(output_index=at, item=msgspec.structs.replace(item, arguments="", status="in_progress"))
                yield ArgumentsDelta(item_id=id, output_index=at, delta=item.arguments)
                yield ArgumentsDone(item_id=id, output_index=at, arguments=item.arguments, name=item.name)
        yield ItemDone(output_index=at, item=item)


def cannot_replay(response: ResponseObject) -> RequestError:
    return RequestError(f"{response.id} was not made in the background; get it without `stream`.", "stream")
