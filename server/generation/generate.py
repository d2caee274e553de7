"""Carries out a generation request: grounded in the documents, or by the language model alone."""

import contextlib
from typing import NamedTuple

import msgspec

from index.types import SearchScope
from models.llm.chat.messages import ChatMessage, replace_text
from models.llm.chat.prompt import Prompt
from models.llm.params import SamplingParams
from server.generation.answer import Grounding
from server.generation.constraint import check_constraint
from server.generation.request import GenerationRequest
from server.generation.stream import GenerationStream
from server.generation.target import Target, resolve_target
from server.rag.auxiliary import is_auxiliary
from server.rag.citations import without_source_list
from server.rag.options import Mode
from server.rag.pipeline import GroundedPrompt
from server.rag.request import GroundingRequest, SourceLayout
from server.resources.model_source import ModelSource
from server.services import Services


async def generate(request: GenerationRequest, services: Services) -> GenerationStream:
    """Start the answers to a request, and return their stream, which the caller closes.

    The model stays in use until then. Raises whatever prevents an answer.
    """
    target = resolve_target(request.model, services, request.rag.collections)
    async with contextlib.AsyncExitStack() as resources:
        model = await resources.enter_async_context(services.pool.use(target.model))
        await check_constraint(model.chat_model, request.tool_config, request.answer_format)
        prepared = await _prepare(request, target, model, services)
        sampling = SamplingParams(**{"temperature": model.profile.temperature, **request.sampling})
        turns = [
            model.chat_model.generate(
                prepared.prompt,
                sampling_of_answer(sampling, index),
                max_tokens=request.max_tokens,
                stop=request.stop,
                tool_config=request.tool_config,
                form=request.answer_format.form if request.answer_format else None,
                choices=prepared.choices,
                client=services.principal.owner,
                priority=request.priority,
            )
            for index in range(request.num_answers)
        ]
        num_prompt = prepared.prompt.num_tokens
        return await GenerationStream.start(
            num_prompt, turns, resources.pop_all(), prepared.grounding, memory=services.rag
        )


async def count_prompt_tokens(request: GenerationRequest, services: Services) -> int:
    """Return how many tokens the model would read. Raises whatever would prevent an answer."""
    target = resolve_target(request.model, services, request.rag.collections)
    async with services.pool.use(target.model) as model:
        await check_constraint(model.chat_model, request.tool_config, request.answer_format)
        return (await _prepare(request, target, model, services)).prompt.num_tokens


class _PreparedPrompt(NamedTuple):
    """A prompt, the replies that an extractive model may choose from, and what the answers are grounded on."""

    prompt: Prompt
    choices: tuple[str, ...] = ()
    grounding: Grounding | None = None


async def _prepare(
    request: GenerationRequest, target: Target, model: ModelSource, services: Services
) -> _PreparedPrompt:
    """Return the prompt, grounded where the target or the request asks for it.

    Questions are searched for. A tool's result is not, since its question was, nor is an auxiliary request of the
    client; earlier turns keep their sources all the same. The reply to an auxiliary request is passed on as the model
    generates it, whatever the conversation is grounded on.
    """
    if not (target.is_grounded or request.scope) or request.rag.mode is Mode.NEVER:
        return _PreparedPrompt(model.chat_model.prompt(request.messages, request.tools, request.template_options))
    is_by_client = request.rag.mode is Mode.AUTO and is_auxiliary(request.messages)
    is_question = request.messages[-1].role == "user" and not is_by_client
    scope = request.scope or await _resolve_scope(request, target, services)
    grounding_request = make_grounding_request(request, scope, model, services, is_question=is_question)
    grounded = await services.rag.ground(grounding_request)
    is_quoting = model.chat_model.capabilities.extractive and not request.tool_config and not request.answer_format
    is_cited = not is_by_client and (is_question or grounded.sources)
    return _PreparedPrompt(
        grounded.prompt,
        tuple(grounded.choices) if is_quoting else (),
        _grounding(request, grounded) if is_cited else None,
    )


async def _resolve_scope(request: GenerationRequest, target: Target, services: Services) -> SearchScope:
    """Return the collections and files that the request names. Raises what `VectorStoreService.search_scope` does."""
    options = request.rag
    if not options.vector_stores:
        return SearchScope(target.collections)
    stores = await services.vector_stores.search_scope(options.vector_stores)
    names = {*(stores.collections or ()), *(options.collections or ())}
    return SearchScope(sorted(names), stores.subsets)


def make_grounding_request(
    request: GenerationRequest,
    scope: SearchScope,
    model: ModelSource,
    services: Services,
    *,
    is_question: bool = True,
) -> GroundingRequest:
    """Return the part of a request that grounding needs, for the model that will read the sources."""
    return GroundingRequest(
        messages=[_without_source_list(message) for message in request.messages],
        model=model.chat_model,
        layout=SourceLayout(model.profile.max_passage_chars, model.profile.question_first),
        options=request.rag,
        scope=scope,
        is_question=is_question,
        tools=request.tools,
        template_options=request.template_options,
        max_tokens=request.max_tokens,
    )


def _without_source_list(message: ChatMessage) -> ChatMessage:
    """Return a reply as the model generated it, without the list of sources that was put behind it."""
    if message.role != "assistant":
        return message
    return replace_text(message, without_source_list(message.text))


def _grounding(request: GenerationRequest, grounded: GroundedPrompt) -> Grounding:
    return Grounding(
        sources=grounded.sources,
        report=grounded.report,
        style=request.rag.citations,
        is_json=request.answer_format is not None,
        record=grounded.record,
    )


def sampling_of_answer(sampling: SamplingParams, index: int) -> SamplingParams:
    """Return the sampling of one of several answers: each has a seed of its own, or all would be the same."""
    if sampling.seed is None or not index:
        return sampling
    seed = (sampling.seed + index + 2**63) % 2**64 - 2**63
    return msgspec.structs.replace(sampling, seed=seed)
