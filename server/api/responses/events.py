"""Events of a streamed response on the wire. Each has a type and, counted from 0, its number in the stream."""

import msgspec

from server.api.responses.items import OutputItem, OutputText, ResponseAnnotation, SummaryText
from server.api.responses.wire import ResponseObject
from server.api.shared.logprobs import TokenLogprob


class ResponseStreamEvent(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    sequence_number: int = 0


class ResponseStatusEvent(ResponseStreamEvent, frozen=True):
    response: ResponseObject


class ResponseCreated(ResponseStatusEvent, frozen=True, tag="response.created"):
    pass


class ResponseQueued(ResponseStatusEvent, frozen=True, tag="response.queued"):
    pass


class ResponseInProgress(ResponseStatusEvent, frozen=True, tag="response.in_progress"):
    pass


class ResponseCompleted(ResponseStatusEvent, frozen=True, tag="response.completed"):
    pass


class ResponseIncomplete(ResponseStatusEvent, frozen=True, tag="response.incomplete"):
    pass


class ResponseFailed(ResponseStatusEvent, frozen=True, tag="response.failed"):
    pass


class OutputItemAdded(ResponseStreamEvent, frozen=True, tag="response.output_item.added", kw_only=True):
    output_index: int
    item: OutputItem


class OutputItemDone(ResponseStreamEvent, frozen=True, tag="response.output_item.done", kw_only=True):
    output_index: int
    item: OutputItem


class ItemEvent(ResponseStreamEvent, frozen=True, kw_only=True):
    item_id: str
    output_index: int


class FileSearchInProgress(ItemEvent, frozen=True, tag="response.file_search_call.in_progress"):
    pass


class FileSearchSearching(ItemEvent, frozen=True, tag="response.file_search_call.searching"):
    pass


class FileSearchCompleted(ItemEvent, frozen=True, tag="response.file_search_call.completed"):
    pass


class ContentPartEvent(ItemEvent, frozen=True, kw_only=True):
    content_index: int = 0


class ContentPartAdded(ContentPartEvent, frozen=True, tag="response.content_part.added", kw_only=True):
    part: OutputText


class ContentPartDone(ContentPartEvent, frozen=True, tag="response.content_part.done", kw_only=True):
    part: OutputText


class OutputTextDelta(ContentPartEvent, frozen=True, tag="response.output_text.delta", kw_only=True):
    delta: str
    logprobs: list[TokenLogprob] = []


class OutputTextAnnotationAdded(
    ContentPartEvent, frozen=True, tag="response.output_text.annotation.added", kw_only=True
):
    annotation_index: int
    annotation: ResponseAnnotation


class OutputTextDone(ContentPartEvent, frozen=True, tag="response.output_text.done", kw_only=True):
    text: str
    logprobs: list[TokenLogprob] = []


class FunctionArgumentsDelta(ItemEvent, frozen=True, tag="response.function_call_arguments.delta", kw_only=True):
    delta: str


class FunctionArgumentsDone(ItemEvent, frozen=True, tag="response.function_call_arguments.done", kw_only=True):
    arguments: str
    name: str


class SummaryPartEvent(ItemEvent, frozen=True, kw_only=True):
    summary_index: int = 0


class SummaryPartAdded(SummaryPartEvent, frozen=True, tag="response.reasoning_summary_part.added", kw_only=True):
    part: SummaryText


class SummaryTextDelta(SummaryPartEvent, frozen=True, tag="response.reasoning_summary_text.delta", kw_only=True):
    delta: str


class SummaryTextDone(SummaryPartEvent, frozen=True, tag="response.reasoning_summary_text.done", kw_only=True):
    text: str


class SummaryPartDone(SummaryPartEvent, frozen=True, tag="response.reasoning_summary_part.done", kw_only=True):
    part: SummaryText


class ResponseErrorEvent(ResponseStreamEvent, frozen=True, tag="error", kw_only=True):
    message: str
    code: str
    param: str | None = None
