"""POST /v1/chat/completions."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from litestar import Controller, MediaType, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from models.errors import GrammarError
from models.llm.chat_template import ChatMessage
from models.llm.grammar import Constraint, JsonObject, JsonSchema, check
from models.llm.params import SamplingParams
from server.addressing import GROUNDED, target_of
from server.answer import Answer
from server.connection import unless_gone
from server.controllers.documents import passage_url
from server.exceptions import RequestError
from server.protocol.chat import (
    Annotation,
    AssistantMessage,
    ChatCompletion,
    ChatCompletionChunk,
    ChatRequest,
    Choice,
    ChunkChoice,
    Delta,
    Message,
    PromptTokensDetails,
    ResponseFormat,
    UrlCitation,
    Usage,
)
from server.services import Services
from server.sse import event_stream

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


_NOT_PLAIN: Final = ("logit_bias", "num_logprobs")  # sampling fields that are no request field of the same name


class ChatController(Controller):
    @post(["/v1/chat/completions", "/chat/completions"], status_code=200, operation_id="createChatCompletion")
    async def create(
        self, request: Request[Any, Any, Any], data: JSONBody[ChatRequest], services: NamedDependency[Services]
    ) -> Response[Any]:
        answer = await unless_gone(request, _start(data, services))
        reply = _Reply(data, answer, str(request.base_url))
        if data.stream:
            return event_stream(reply.chunks(), answer.close)
        try:
            completion = await unless_gone(request, reply.completion())
        finally:
            await answer.close()
        return Response(completion, media_type=MediaType.JSON)


async def _start(data: ChatRequest, services: Services) -> Answer:
    _refuse_unsupported(data)
    target = target_of(data.model, services)
    messages = [_message(at, message) for at, message in enumerate(data.messages)]
    max_tokens = data.max_completion_tokens or data.max_tokens
    if target.is_grounded and messages[-1].role == "user":
        prompt, sources, choices = await services.grounder.ground(messages, target.collections, max_tokens)
    else:
        prompt, sources, choices = services.language_model.prompt(messages), None, ()
    constraint = _constraint(data.response_format)
    stop = [data.stop] if isinstance(data.stop, str) else data.stop or []
    deltas = services.language_model.generate(
        prompt,
        _sampling(data, services.chat.temperature),
        max_tokens=max_tokens,
        stop=stop,
        choices=choices,
        constraint=constraint,
    )
    answer = Answer(len(prompt), sources, deltas)
    await answer.start()
    return answer


def _refuse_unsupported(data: ChatRequest) -> None:
    asked = {
        "tools": bool(data.tools),
        "functions": bool(data.functions),
        "logprobs": bool(data.logprobs),
        "n": data.n not in (None, 1),
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise RequestError(f"{name} is not supported yet; leave it out.", name)


def _constraint(form: ResponseFormat | None) -> Constraint | None:
    """Raises `RequestError` for a schema that cannot be enforced, with its path."""
    if form is None or form.type == "text":
        return None
    schema = form.json_schema.schema if form.json_schema else form.schema
    if schema is None:
        if form.type == "json_schema":
            raise RequestError("Its schema is missing.", "response_format.json_schema", "missing_required_parameter")
        return JsonObject()
    constraint = JsonSchema(msgspec.json.encode(schema).decode())
    try:
        check(constraint)
    except GrammarError as error:
        path = error.path.replace("$", "response_format.json_schema.schema", 1) or "response_format"
        raise RequestError(f"This schema cannot be enforced: {error.reason}.", path, "invalid_value") from None
    return constraint


def _message(at: int, message: Message) -> ChatMessage:
    role = _ROLES.get(message.role)
    if role is None:
        raise RequestError(f"{message.role!r} is no role; there are: {', '.join(_ROLES)}.", f"messages[{at}].role")
    return msgspec.convert({"role": role, "content": _text(at, message)}, ChatMessage)


def _text(at: int, message: Message) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    for i, part in enumerate(message.content):
        if part.text is None:
            where = f"messages[{at}].content[{i}]"
            raise RequestError(f"This model reads text only; a part of type {part.type!r} cannot be used.", where)
    return "\n".join(part.text or "" for part in message.content)


def _sampling(data: ChatRequest, temperature: float) -> SamplingParams:
    """What the client leaves out is the model's own default, or idle."""
    if not all(token.isdecimal() and len(token) < 10 for token in data.logit_bias or {}):
        raise RequestError("Its keys must be token ids, whole numbers.", "logit_bias", "invalid_value")
    bias = {int(token): value for token, value in (data.logit_bias or {}).items()}
    names = msgspec.structs.fields(SamplingParams)
    given = {field.name: getattr(data, field.name) for field in names if field.name not in _NOT_PLAIN}
    chosen = {name: value for name, value in given.items() if value is not None}
    return SamplingParams(**{"temperature": temperature, **chosen}, logit_bias=bias)


class _Reply:
    """An answer in the shape of the wire."""

    def __init__(self, data: ChatRequest, answer: Answer, base_url: str) -> None:
        self._answer = answer
        self._base_url = base_url
        self._has_usage = bool(data.stream_options and data.stream_options.include_usage)
        self._model = data.model or GROUNDED
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def completion(self) -> ChatCompletion:
        content = "".join([piece async for piece in self._answer.text()])
        annotations = self._annotations() or msgspec.UNSET
        choice = Choice(AssistantMessage(content, annotations), self._answer.finish_reason)
        return ChatCompletion(self._id, self._created, self._model, [choice], self._usage())

    async def chunks(self) -> AsyncIterator[ChatCompletionChunk]:
        yield self._chunk(Delta(role="assistant", content=""))
        async for piece in self._answer.text():
            yield self._chunk(Delta(content=piece))
        if annotations := self._annotations():
            yield self._chunk(Delta(annotations=annotations))
        yield self._chunk(Delta(), self._answer.finish_reason)
        if self._has_usage:
            yield ChatCompletionChunk(self._id, self._created, self._model, [], self._usage())

    def _chunk(self, delta: Delta, finish_reason: str | None = None) -> ChatCompletionChunk:
        usage = None if self._has_usage else msgspec.UNSET
        return ChatCompletionChunk(self._id, self._created, self._model, [ChunkChoice(delta, finish_reason)], usage)

    def _usage(self) -> Usage:
        num_prompt, num_generated = self._answer.num_prompt, self._answer.num_generated
        details = PromptTokensDetails(self._answer.num_cached)
        return Usage(num_prompt, num_generated, num_prompt + num_generated, details)

    def _annotations(self) -> list[Annotation]:
        return [
            Annotation(index, self._citation(number, start, end))
            for index, (number, start, end) in enumerate(self._answer.citations)
        ]

    def _citation(self, number: int, start: int, end: int) -> UrlCitation:
        source = self._answer.sources[number]
        passage = source.passage
        return UrlCitation(
            url=passage_url(self._base_url, passage),
            title=source.label,
            start_index=start,
            end_index=end,
            content=source.text,
            path=passage.path,
            collection=passage.collection,
            lines=(passage.line_from, passage.line_to),
            score=round(passage.score, 4),
        )
