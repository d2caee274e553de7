"""Bare completions, in no dialect: of prompts as they are, or of the gap between two texts. Never grounded."""

import asyncio
import contextlib
from typing import Any

import msgspec

from models.llm.base import CompletionModel
from models.llm.chat.fim import Gap
from models.llm.params import Priority, SamplingParams
from server.generation.completion_request import RawCompletionRequest
from server.generation.generate import own_sampling
from server.generation.stream import GenerationStream, Steps
from server.generation.target import target_of
from server.services import Services

_NEVER = -1e9  # added to a token's logit: it is not drawn


class RawCompletions(msgspec.Struct, frozen=True):
    """`answers` are those of the first prompt, then of the second; `prompts` are as the model reads them."""

    answers: GenerationStream
    prompts: list[list[int]]
    model: CompletionModel


async def complete_prompts(asked: RawCompletionRequest, services: Services) -> RawCompletions:
    """Started; the caller closes the answers. Raises whatever prevents one."""
    name = _model(asked, services)
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(services.pool.use(name))
        completion_model = model.completion_model
        prompts = await asyncio.to_thread(_prompts, asked, completion_model)
        default = {"temperature": model.resolved.temperature}
        sampling = SamplingParams(**{**default, **_biased(asked, completion_model)})
        at_once = asyncio.Semaphore(model.params.n_slots)
        steps = [
            _in_turn(
                completion_model.complete(
                    prompt,
                    own_sampling(sampling, index),
                    max_tokens=asked.max_tokens,
                    stop=asked.stop,
                    form=asked.form,
                    bounds=asked.bounds,
                    client=services.principal.owner,
                    priority=_priority(asked),
                ),
                at_once,
            )
            for prompt in prompts
            for index in range(asked.num_answers)
        ]
        answers = GenerationStream(sum(map(len, prompts)), steps)
        await stack.enter_async_context(contextlib.aclosing(answers))
        await answers.start()
        answers.lease = stack.pop_all()
        return RawCompletions(answers, prompts, completion_model)


def _model(asked: RawCompletionRequest, services: Services) -> str:
    """Editors name no model: then it is the first that can do it."""
    name = target_of(asked.model, services).model
    if asked.model or asked.suffix is None:
        return name
    return next((model.name for model in services.pool if model.chat_model.capabilities.infill), name)


def _prompts(asked: RawCompletionRequest, model: CompletionModel) -> list[list[int]]:
    if asked.suffix is None:
        return [model.tokenizer.encode_prompt(prompt) for prompt in asked.prompts]
    tokenizer = model.tokenizer
    texts = [
        prompt if isinstance(prompt, str) else tokenizer.detokenize(tokenizer.encode_prompt(prompt))
        for prompt in asked.prompts
    ]
    return [model.infill_prompt(Gap(text, asked.suffix, asked.extra), asked.max_tokens) for text in texts]


def _biased(asked: RawCompletionRequest, model: CompletionModel) -> dict[str, Any]:
    if not asked.ignores_end:
        return dict(asked.sampling)
    biases = {**asked.sampling.get("logit_bias", {}), **dict.fromkeys(model.tokenizer.end_tokens, _NEVER)}
    return {**asked.sampling, "logit_bias": biases}


def _priority(asked: RawCompletionRequest) -> Priority:
    """What only reads ahead gives way to everybody."""
    if asked.priority is not None:
        return asked.priority
    if asked.max_tokens == 0:
        return Priority.BATCH
    return Priority.INTERACTIVE if asked.suffix is None else Priority.TYPING


async def _in_turn(steps: Steps, at_once: asyncio.Semaphore) -> Steps:
    """So that one request's many prompts do not fill the queue."""
    async with at_once, contextlib.aclosing(steps):
        async for events in steps:
            yield events
