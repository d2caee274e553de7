"""Carries out a raw completion request: continues prompts as they are, or fills the gap between two texts."""

import asyncio
import contextlib
from typing import Any

import msgspec

from models.llm.base import CompletionModel
from models.llm.chat.fim import Gap
from models.llm.params import Priority, SamplingParams
from server.generation.completion_request import RawCompletionRequest
from server.generation.constraint import check_constraint
from server.generation.generate import sampling_of_answer
from server.generation.stream import GenerationStream, Steps
from server.generation.target import require_completion_model, resolve_target
from server.services import Services

_NEVER = -1e9  # bias on a token's logit: it is not sampled


class RawCompletions(msgspec.Struct, frozen=True):
    """The answers to the first prompt, then to the second, and so on. `prompts` are as the model reads them."""

    answers: GenerationStream
    prompts: list[list[int]]
    model: CompletionModel


async def complete_prompts(request: RawCompletionRequest, services: Services) -> RawCompletions:
    """Start the answers to a request, and return them with their stream, which the caller closes.

    The model stays in use until then. Raises whatever prevents an answer.
    """
    name = _model_name(request, services)
    async with contextlib.AsyncExitStack() as resources:
        model = await resources.enter_async_context(services.pool.use(name))
        completion_model = require_completion_model(model)
        await check_constraint(completion_model, None, request.answer_format)
        prompts = await asyncio.to_thread(_prompts, request, completion_model)
        default = {"temperature": model.profile.temperature}
        sampling = SamplingParams(**{**default, **_sampling(request, completion_model)})
        slots = asyncio.Semaphore(model.profile.num_slots)
        turns = [
            _when_free(
                completion_model.complete(
                    prompt,
                    sampling_of_answer(sampling, index),
                    max_tokens=request.max_tokens,
                    stop=request.stop,
                    form=request.answer_format.form if request.answer_format else None,
                    bounds=request.bounds,
                    client=services.principal.owner,
                    priority=_priority(request),
                ),
                slots,
            )
            for prompt in prompts
            for index in range(request.num_answers)
        ]
        answers = await GenerationStream.start(sum(map(len, prompts)), turns, resources.pop_all())
        return RawCompletions(answers, prompts, completion_model)


def _model_name(request: RawCompletionRequest, services: Services) -> str:
    """Return the model's name. Editors name none to fill a gap: then it is the first model that can do it."""
    name = resolve_target(request.model, services).model
    if request.model or request.suffix is None:
        return name
    return next((model.name for model in services.pool if model.chat_model.capabilities.infill), name)


def _prompts(request: RawCompletionRequest, model: CompletionModel) -> list[list[int]]:
    tokenizer = model.tokenizer
    if request.suffix is None:
        return [tokenizer.encode_prompt(prompt) for prompt in request.prompts]
    texts = [
        prompt if isinstance(prompt, str) else tokenizer.detokenize(tokenizer.encode_prompt(prompt))
        for prompt in request.prompts
    ]
    return [model.infill_prompt(Gap(text, request.suffix, request.extra), request.max_tokens) for text in texts]


def _sampling(request: RawCompletionRequest, model: CompletionModel) -> dict[str, Any]:
    """Return the request's sampling; with `ignores_end`, no token that ends a text is sampled."""
    if not request.ignores_end:
        return dict(request.sampling)
    biases = {**request.sampling.get("logit_bias", {}), **dict.fromkeys(model.tokenizer.end_tokens, _NEVER)}
    return {**request.sampling, "logit_bias": biases}


def _priority(request: RawCompletionRequest) -> Priority:
    """Return the request's priority. Reading ahead, without an answer, gives way to everybody."""
    if request.priority is not None:
        return request.priority
    if request.max_tokens == 0:
        return Priority.BATCH
    return Priority.INTERACTIVE if request.suffix is None else Priority.TYPING


async def _when_free(steps: Steps, slots: asyncio.Semaphore) -> Steps:
    """Yield the steps once a slot is free, so that one request's many prompts do not fill the queue."""
    async with slots, contextlib.aclosing(steps):
        async for events in steps:
            yield events
