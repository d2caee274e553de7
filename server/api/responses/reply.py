"""The reply of /v1/responses: a generation as stream events, and the response that they add up to."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
from msgspec import UNSET

from models.llm.chat.events import Content, EndReason, Reasoning, ToolCallArguments, ToolCallStart, TurnEnd
from models.llm.chat.logprobs import ScoredToken
from server.api.responses.events import ResponseCreated, ResponseErrorEvent, ResponseInProgress, ResponseStreamEvent
from server.api.responses.item_writers import new_item_id
from server.api.responses.items import FileCitation, FileSearchResult, ResponseAnnotation, ResponseUrlCitation
from server.api.responses.output import OutputTable
from server.api.responses.replay import final_event
from server.api.responses.request import RESULTS, has_logprobs
from server.api.responses.tools import parse_file_search
from server.api.responses.wire import (
    FileSearchTool,
    FunctionTool,
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseError,
    ResponseObject,
    ResponseReasoningOptions,
    ResponseRequest,
    ResponseTextFormat,
    ResponseTextOptions,
    ResponseTool,
    ResponseUsage,
)
from server.api.shared.logprobs import TokenLogprob, token_logprob
from server.api.shared.rag import format_source_list, rag_reply
from server.files.vector_stores import FileHit, passage_file_id
from server.generation.answer import AnswerCitations, AnswerEvent
from server.generation.stream import GenerationStream
from server.http.links import passage_url
from server.http.problems import Problem
from server.rag.citations import Citation
from server.settings.settings import GROUNDED


class ResponseReply:
    """A response in the making. `hits` are the passages of the prompt that are in the requested vector stores."""

    def __init__(
        self,
        data: ResponseRequest,
        response: ResponseObject,
        generation: GenerationStream,
        hits: Sequence[FileHit],
        base_url: str,
    ) -> None:
        self.response = response  # replaced when the output is complete
        self._generation = generation
        self._hits = hits
        self._base_url = base_url
        self._has_search = parse_file_search(data) is not None
        self._has_results = RESULTS in (data.include or ())
        self._has_logprobs = has_logprobs(data)
        self._output = OutputTable()
        self._num_events = 0

    async def events(self) -> AsyncIterator[ResponseStreamEvent]:
        """Yield all events but the last, so that the response can be stored before `final_event` announces it."""
        for event in self._initial_events():
            yield self._number(event)
        async for _, generated in self._generation.events():
            for event in self._write(generated):
                yield self._number(event)

    def final_event(self) -> ResponseStreamEvent:
        """Return the last event, which carries the complete response."""
        return self._number(final_event(self.response))

    def failure_events(self, problem: Problem) -> Iterator[ResponseStreamEvent]:
        """Return the events that end the stream in place of the rest, and mark the response as failed."""
        detail = problem.detail
        partial = msgspec.structs.replace(self.response, output=self._output.items)
        self.response = failed_response(partial, problem)
        code = detail.code or "server_error"
        yield self._number(ResponseErrorEvent(message=detail.message, code=code, param=detail.param))
        yield self.final_event()

    async def whole(self) -> ResponseObject:
        async for _ in self.events():
            pass
        return self.response

    async def aclose(self) -> None:
        """Cancel what is left of the generation. Idempotent."""
        await self._generation.aclose()

    def _number(self, event: ResponseStreamEvent) -> ResponseStreamEvent:
        numbered = msgspec.structs.replace(event, sequence_number=self._num_events)
        self._num_events += 1
        return numbered

    def _initial_events(self) -> Iterator[ResponseStreamEvent]:
        yield ResponseCreated(response=self.response)
        yield ResponseInProgress(response=self.response)
        grounding = self._generation.grounding
        if self._has_search and grounding is not None and grounding.report.queries:
            results = [_search_result(hit) for hit in self._hits] if self._has_results else None
            yield from self._output.add_file_search(grounding.report.queries, results)

    def _write(self, event: AnswerEvent) -> Iterator[ResponseStreamEvent]:
        output = self._output
        match event:
            case Reasoning(text):
                yield from output.write_reasoning(text)
            case Content(text, tokens):
                yield from output.write_text(text, self._logprobs(tokens))
            case ToolCallStart(number, call_id, name):
                # A grounded message stays open: its citations come when all of the text is there.
                is_bare = self._generation.grounding is None
                yield from output.start_call(number, call_id, name, closes_message=is_bare)
            case ToolCallArguments(number, text):
                yield from output.write_arguments(number, text)
            case AnswerCitations():
                yield from self._cite(event)
            case TurnEnd():
                yield from output.finish("incomplete" if event.reason is EndReason.LENGTH else "completed")
                self._complete(event)

    def _logprobs(self, tokens: Sequence[ScoredToken]) -> list[TokenLogprob]:
        return [token_logprob(token) for token in tokens] if self._has_logprobs else []

    def _cite(self, event: AnswerCitations) -> Iterator[ResponseStreamEvent]:
        grounding = self._generation.grounding
        assert grounding is not None, "only a grounded reply has citations"
        if event.is_listed:
            yield from self._output.write_text(format_source_list(grounding, event.citations, self._base_url))
        annotations = [self._annotation(each) for each in event.citations] if event.is_annotated else []
        yield from self._output.annotate(annotations)

    def _annotation(self, citation: Citation) -> ResponseAnnotation:
        assert self._generation.grounding is not None
        source = self._generation.grounding.sources[citation.number]
        passage = source.passage
        url = passage_url(self._base_url, passage)
        if not self._has_search:
            return ResponseUrlCitation(
                url=url,
                title=source.label,
                start_index=citation.start,
                end_index=citation.end,
                quote=citation.quote,
            )
        return FileCitation(
            file_id=passage_file_id(passage),
            filename=passage.display_path.rpartition("/")[2],
            index=citation.start,
            quote=citation.quote,
            url=url,
        )

    def _complete(self, end: TurnEnd) -> None:
        is_cut = end.reason is EndReason.LENGTH
        grounding = self._generation.grounding
        self.response = msgspec.structs.replace(
            self.response,
            status="incomplete" if is_cut else "completed",
            incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
            completed_at=int(time.time()),
            output=self._output.items,
            usage=_usage(self._generation.num_prompt, end),
            rag=rag_reply(grounding.report, self._base_url) if grounding else UNSET,
        )


def new_response(data: ResponseRequest, *, is_queued: bool = False) -> ResponseObject:
    """Return the response to a request, without output."""
    text = data.text or ResponseTextOptions()
    return ResponseObject(
        id=new_item_id("resp"),
        created_at=int(time.time()),
        status="queued" if is_queued else "in_progress",
        model=data.model or GROUNDED,
        output=[],
        instructions=data.instructions,
        tools=[_tool(tool) for tool in data.tools or ()],
        tool_choice=data.tool_choice or "auto",
        parallel_tool_calls=data.parallel_tool_calls is not False,
        text=ResponseTextOptions(text.format or ResponseTextFormat("text"), text.verbosity),
        reasoning=data.reasoning or ResponseReasoningOptions(),
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


def _tool(tool: ResponseTool) -> FunctionTool | FileSearchTool:
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


def failed_response(response: ResponseObject, problem: Problem) -> ResponseObject:
    """Return the response as failed, with an error code that OpenAI's clients know."""
    if problem.status == 400:
        code = "invalid_prompt"
    else:
        code = "rate_limit_exceeded" if problem.status == 429 else "server_error"
    return msgspec.structs.replace(response, status="failed", error=ResponseError(code, problem.detail.message))


def _usage(num_prompt: int, end: TurnEnd) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=num_prompt,
        input_tokens_details=InputTokensDetails(end.num_cached, 0),
        output_tokens=end.num_generated,
        output_tokens_details=OutputTokensDetails(end.num_reasoning),
        total_tokens=num_prompt + end.num_generated,
    )


def _search_result(hit: FileHit) -> FileSearchResult:
    return FileSearchResult(
        file_id=hit.file_id,
        filename=hit.filename,
        score=round(hit.passage.score, 4),
        text=hit.passage.text_with_lead,
        attributes=dict(hit.attributes),
    )
