"""The endpoints that a line of a batch may name: what their routes do, without HTTP and at the priority of batches."""

import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import NamedTuple, TypeVar

import msgspec

from models.llm.params import Priority
from server.api.chat.reply import ChatReply
from server.api.chat.request import generation_request
from server.api.chat.wire import ChatRequest, CompletionUsage
from server.api.completions.reply import CompletionReply
from server.api.completions.request import completion_request
from server.api.completions.wire import CompletionRequest
from server.api.embeddings.reply import embed_request, embedding_list
from server.api.embeddings.wire import EmbeddingRequest
from server.api.responses.service import open_reply, prepare_request
from server.api.responses.wire import ResponseRequest
from server.errors import RequestError
from server.generation.completion import complete_prompts
from server.generation.generate import generate
from server.services import Services
from server.storage.records import TokenUsage

_FIELD_PATH = re.compile(r" - at `\$\.?(.*)`\Z")

T = TypeVar("T")


class LineAnswer(NamedTuple):
    """The body of a successful reply, and the tokens that it took."""

    body: msgspec.Struct
    usage: TokenUsage


Endpoint = Callable[[bytes, Services, str], Awaitable[LineAnswer]]  # the body, and the address links begin with


async def _chat(body: bytes, services: Services, base_url: str) -> LineAnswer:
    data = _decode(body, ChatRequest)
    request = msgspec.structs.replace(generation_request(data), priority=Priority.BATCH)
    async with aclosing(await generate(request, services)) as stream:
        completion = await ChatReply(data, stream, base_url).whole()
    return LineAnswer(completion, _token_usage(completion.usage))


async def _completion(body: bytes, services: Services, base_url: str) -> LineAnswer:
    data = _decode(body, CompletionRequest)
    request = msgspec.structs.replace(completion_request(data), priority=Priority.BATCH)
    completions = await complete_prompts(request, services)
    async with aclosing(completions.answers):
        completion = await CompletionReply(data, completions).whole()
    assert isinstance(completion.usage, CompletionUsage), "a whole reply has it"
    return LineAnswer(completion, _token_usage(completion.usage))


async def _embedding(body: bytes, services: Services, base_url: str) -> LineAnswer:
    data = _decode(body, EmbeddingRequest)
    embeddings = await embed_request(data, services.embeddings)
    listing = embedding_list(embeddings, services.embeddings.model.name, data.encoding_format)
    return LineAnswer(listing, TokenUsage(input=listing.usage.prompt_tokens, cached=0, output=0, reasoning=0))


async def _response(body: bytes, services: Services, base_url: str) -> LineAnswer:
    data = _decode(body, ResponseRequest)
    if data.background:
        raise RequestError("A batch runs in the background already; leave this out.", "background")
    request = await prepare_request(data, services)
    async with aclosing(await open_reply(request, services, base_url, Priority.BATCH)) as reply:
        response = await reply.whole()
    usage = response.usage
    assert usage is not None, "a complete response has it"
    return LineAnswer(
        response,
        TokenUsage(
            input=usage.input_tokens,
            cached=usage.input_tokens_details.cached_tokens,
            output=usage.output_tokens,
            reasoning=usage.output_tokens_details.reasoning_tokens,
        ),
    )


ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embedding,
    "/v1/responses": _response,
}


def _decode(body: bytes, type: type[T]) -> T:
    """Raises `RequestError` with the path of the field at fault."""
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as error:
        path = _FIELD_PATH.search(str(error))
        message = str(error) if path is None else str(error)[: path.start()]
        raise RequestError(f"{message}.", path[1] if path else None, "invalid_value") from None


def _token_usage(usage: CompletionUsage) -> TokenUsage:
    return TokenUsage(
        input=usage.prompt_tokens,
        cached=usage.prompt_tokens_details.cached_tokens,
        output=usage.completion_tokens,
        reasoning=usage.completion_tokens_details.reasoning_tokens,
    )
