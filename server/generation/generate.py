"""What a client asks for, in no dialect, and the answers to it: grounded or from the language model alone."""

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from index.types import SearchScope
from models.llm.chat.messages import ChatMessage, replace_text
from models.llm.chat.prompt import Prompt
from models.llm.params import SamplingParams
from server.generation.request import GenerationRequest
from server.generation.stream import GenerationStream, Grounding
from server.generation.target import Target, target_of
from server.rag.auxiliary import is_background
from server.rag.citations import without_source_list
from server.rag.options import Mode, RagOptions
from server.rag.pipeline import Grounded, TargetModel
from server.resources.pool import ManagedModel
from server.services import Services


async def generate(ask: GenerationRequest, services: Services) -> GenerationStream:
    """Started; the caller closes them. Raises whatever prevents an answer."""
    target = target_of(ask.model, services, ask.rag.collections)
    is_by_client, is_question = _is_by_client(ask), _is_question(ask)
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(services.pool.use(target.model))
        grounded = await _grounded(ask, target, model, services, is_question=is_question)
        prompt = grounded.prompt if grounded else model.chat_model.prompt(ask.messages, ask.tools, ask.options)
        await asyncio.to_thread(model.chat_model.check_constraint, ask.tool_config, ask.form)
        sampling = SamplingParams(**{"temperature": model.resolved.temperature, **ask.sampling})
        steps = [
            model.chat_model.generate(
                prompt,
                own_sampling(sampling, index),
                max_tokens=ask.max_tokens,
                stop=ask.stop,
                tool_config=ask.tool_config,
                form=ask.form,
                choices=grounded.choices if grounded else (),
                client=services.principal.owner,
                priority=ask.priority,
            )
            for index in range(ask.num_answers)
        ]
        # What a client asks by itself is told as the model says it, whatever the conversation was grounded on.
        is_told = grounded and not is_by_client and (is_question or grounded.sources)
        grounding = _grounding(ask, grounded) if grounded and is_told else None
        answers = GenerationStream(len(prompt.tokens), steps, grounding)
        await stack.enter_async_context(contextlib.aclosing(answers))
        await answers.start()
        answers.lease = stack.pop_all()
        return answers


async def count_prompt_tokens(ask: GenerationRequest, services: Services) -> int:
    """Tokens that the model would read. Raises whatever would prevent an answer."""
    target = target_of(ask.model, services, ask.rag.collections)
    async with services.pool.use(target.model) as model:
        grounded = await _grounded(ask, target, model, services, is_question=_is_question(ask))
        prompt = grounded.prompt if grounded else model.chat_model.prompt(ask.messages, ask.tools, ask.options)
        return len(prompt.tokens)


def _is_by_client(ask: GenerationRequest) -> bool:
    return ask.rag.mode is Mode.AUTO and is_background(ask.messages)


def _is_question(ask: GenerationRequest) -> bool:
    return ask.messages[-1].role == "user" and not _is_by_client(ask)


async def _grounded(
    ask: GenerationRequest, target: Target, model: ManagedModel, services: Services, *, is_question: bool
) -> Grounded | None:
    """None when the language model is asked alone. A question is searched for; what answers a tool's result is not, its
    question was, and what a client asks by itself is not. Then earlier turns still have their sources."""
    if not (target.is_grounded or ask.scope) or ask.rag.mode is Mode.NEVER:
        return None
    collections, chosen = ask.scope or await _scope(ask.rag, target, services)
    options = msgspec.structs.replace(ask.rag, collections=collections, chosen=chosen)
    messages = [_as_told(message) for message in ask.messages]
    return await services.rag.ground(messages, options, target_model(ask, model, services), is_question=is_question)


async def _scope(asked: RagOptions, target: Target, services: Services) -> SearchScope:
    """Raises what `Library.scope` does."""
    if not asked.vector_stores:
        return SearchScope(target.collections, asked.chosen)
    stores = await services.library.scope(asked.vector_stores)
    named = {*(stores.collections or ()), *(asked.collections or ())}
    return SearchScope(sorted(named), [*stores.chosen, *asked.chosen])


def target_model(ask: GenerationRequest, model: ManagedModel, services: Services) -> TargetModel:
    chat_model = model.chat_model

    def render(messages: Sequence[ChatMessage]) -> Prompt:
        return chat_model.prompt(messages, ask.tools, ask.options)

    return TargetModel(
        render,
        chat_model.count_tokens,
        chat_model.context_length,
        ask.max_tokens,
        services.max_passage_chars(model),
        model.resolved.extractive and not ask.tool_config and not ask.form,
        model.resolved.question_first,
    )


def _as_told(message: ChatMessage) -> ChatMessage:
    """An answer as the model gave it."""
    if message.role != "assistant":
        return message
    return replace_text(message, without_source_list(message.text))


def _grounding(ask: GenerationRequest, grounded: Grounded) -> Grounding:
    is_json = ask.form is not None
    return Grounding(grounded.sources, grounded.report, ask.rag.citations, is_json, grounded.remember)


def own_sampling(sampling: SamplingParams, index: int) -> SamplingParams:
    """With a seed of its own for each answer, or all would be the same."""
    if sampling.seed is None or not index:
        return sampling
    seed = (sampling.seed + index + 2**63) % 2**64 - 2**63
    return msgspec.structs.replace(sampling, seed=seed)
