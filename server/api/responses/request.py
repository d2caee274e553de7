"""A /v1/responses request as a generation request."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from models.llm.chat.messages import ChatMessage
from models.llm.constraints.forms import JsonObject
from server.api.responses.items import InputItem
from server.api.responses.messages import chat_messages
from server.api.responses.tools import parse_file_search, parse_tool_config
from server.api.responses.wire import ResponseRequest
from server.api.shared.forms import parse_json_schema, reasoning_options
from server.api.shared.rag import rag_options
from server.api.shared.rag_wire import RagRequest
from server.errors import RequestError
from server.generation.answer_format import AnswerFormat
from server.generation.request import GenerationRequest

LOGPROBS: Final = "message.output_text.logprobs"
RESULTS: Final = "file_search_call.results"
_SAMPLING: Final = ("temperature", "top_p", "top_k", "seed")


def generation_request(
    data: ResponseRequest,
    items: Sequence[InputItem],
    history: Sequence[InputItem] = (),
    headers: Mapping[str, str] = MappingProxyType({}),
) -> GenerationRequest:
    """Return the generation that the request wants.

    `items` are the request's own input, `history` those of the responses before it. Raises `RequestError` for what is
    not supported, with the path of the field, or the header, at fault.
    """
    _refuse_unsupported(data)
    messages = chat_messages(items, history)
    if not messages:
        raise RequestError("The input is empty; send a text or items.", "input", "missing_required_parameter")
    if data.instructions:
        messages.insert(0, ChatMessage.of_text("system", data.instructions))
    search = parse_file_search(data)
    rag = rag_options(data.rag, headers)
    if search is not None:
        rag = msgspec.structs.replace(rag, top_k=search.max_results or rag.top_k, least_score=search.min_score)
    return GenerationRequest(
        messages=messages,
        model=data.model,
        sampling=_sampling_values(data),
        max_tokens=data.max_output_tokens,
        tool_config=parse_tool_config(data),
        answer_format=_answer_format(data),
        template_options=reasoning_options(data.reasoning.effort if data.reasoning else None),
        rag=rag,
    )


def with_header_options(data: ResponseRequest, headers: Mapping[str, str]) -> ResponseRequest:
    """Return the request with the headers' RAG options in its body, so that it can be stored. Raises `RequestError`."""
    options = rag_options(data.rag, headers)
    rag = RagRequest(
        collections=list(options.collections) if options.collections is not None else None,
        top_k=options.top_k,
        filters=data.rag.filters if data.rag else None,
        mode=options.mode,
        citations=options.citations,
    )
    return msgspec.structs.replace(data, rag=rag)


def has_logprobs(data: ResponseRequest) -> bool:
    return bool(data.top_logprobs) or LOGPROBS in (data.include or ())


def _refuse_unsupported(data: ResponseRequest) -> None:
    refused = {
        "conversation": data.conversation is not None and "Conversations are not stored; use previous_response_id.",
        "prompt": data.prompt is not None and "There are no stored prompts; send the text.",
        "background": data.background and data.store is False and "A background response needs store: true.",
    }
    for name, message in refused.items():
        if message:
            raise RequestError(str(message), name)


def _sampling_values(data: ResponseRequest) -> dict[str, Any]:
    values = {name: value for name in _SAMPLING if (value := getattr(data, name)) is not None}
    if has_logprobs(data):
        values["num_logprobs"] = data.top_logprobs or 0
    return values


def _answer_format(data: ResponseRequest) -> AnswerFormat | None:
    form = data.text.format if data.text else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return AnswerFormat(JsonObject(), "text.format")
    if form.schema is None:
        raise RequestError("Its schema is missing.", "text.format.schema", "missing_required_parameter")
    return parse_json_schema(form.schema, "text.format.schema")
