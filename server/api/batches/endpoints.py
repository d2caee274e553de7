"""What a line of a batch may ask for: the routes' own work, without HTTP and behind whoever waits."""

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
from server.api.responses.service import keep, prepare, reply_to
from server.api.responses.wire import InputTokensDetails, OutputTokensDetails, ResponseRequest, ResponseUsage
from server.errors import RequestError
from server.generation.completion import complete_prompts
from server.generation.generate import generate
from server.services import Services

_PATH = re.compile(r" - at `\$\.?(.*)`\Z")

T = TypeVar("T")


class Outcome(NamedTuple):
    body: msgspec.Struct
    usage: ResponseUsage


Endpoint = Callable[[bytes, Services, str], Awaitable[Outcome]]


async def _chat(body: bytes, services: Services, base_url: str) -> Outcome:
    data = _read(body, ChatRequest)
    ask = msgspec.structs.replace(generation_request(data), priority=Priority.BATCH)
    async with aclosing(await generate(ask, services)) as answers:
        completion = await ChatReply(data, answers, base_url).whole()
    return Outcome(completion, _as_usage(completion.usage))


async def _completion(body: bytes, services: Services, base_url: str) -> Outcome:
    data = _read(body, CompletionRequest)
    asked = msgspec.structs.replace(completion_request(data), priority=Priority.BATCH)
    made = await complete_prompts(asked, services)
    async with aclosing(made.answers):
        completion = await CompletionReply(data, made).whole()
    assert isinstance(completion.usage, CompletionUsage), "a whole reply has it"
    return Outcome(completion, _as_usage(completion.usage))


async def _embedding(body: bytes, services: Services, base_url: str) -> Outcome:
    data = _read(body, EmbeddingRequest)
    found = await embed_request(data, services.embeddings)
    listing = embedding_list(found, services.embeddings.model.name, data.encoding_format)
    num_read = listing.usage.prompt_tokens
    return Outcome(listing, _usage_of(num_read, 0, 0, 0))


async def _response(body: bytes, services: Services, base_url: str) -> Outcome:
    data = _read(body, ResponseRequest)
    if data.background:
        raise RequestError("A batch is in the background already; leave it out.", "background")
    prepared = await prepare(data, services)
    async with aclosing(await reply_to(prepared, services, base_url, priority=Priority.BATCH)) as reply:
        response = await reply.whole()
    await keep(prepared, response, services)
    assert response.usage is not None, "it is complete"
    return Outcome(response, response.usage)


ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embedding,
    "/v1/responses": _response,
}


def _read(body: bytes, type: type[T]) -> T:
    """Raises `RequestError` with the path of the field at fault."""
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as error:
        found = _PATH.search(str(error))
        message = str(error) if found is None else str(error)[: found.start()]
        raise RequestError(f"{message}.", found[1] if found else None, "invalid_value") from None


def _as_usage(usage: CompletionUsage) -> ResponseUsage:
    cached = usage.prompt_tokens_details.cached_tokens
    reasoned = usage.completion_tokens_details.reasoning_tokens
    return _usage_of(usage.prompt_tokens, cached, usage.completion_tokens, reasoned)


def _usage_of(num_prompt: int, num_cached: int, num_generated: int, num_reasoning: int) -> ResponseUsage:
    return ResponseUsage(
        num_prompt,
        InputTokensDetails(num_cached, 0),
        num_generated,
        OutputTokensDetails(num_reasoning),
        num_prompt + num_generated,
    )


def added(first: ResponseUsage | None, second: ResponseUsage) -> ResponseUsage:
    if first is None:
        return second
    return _usage_of(
        first.input_tokens + second.input_tokens,
        first.input_tokens_details.cached_tokens + second.input_tokens_details.cached_tokens,
        first.output_tokens + second.output_tokens,
        first.output_tokens_details.reasoning_tokens + second.output_tokens_details.reasoning_tokens,
    )
