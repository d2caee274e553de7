"""What a client asks for, in no dialect, and the answers to it: grounded or from the language model alone."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from models.llm.chat.chat_template import ChatMessage
from models.llm.chat.language_model import Prompt
from models.llm.chat.tool_config import Toolbox
from models.llm.constraints.grammar import JsonObject, JsonSchema
from models.llm.engine.sequence import Priority
from models.llm.params import SamplingParams
from server.files.holdings import Scope
from server.generation.stream import Answers, Grounding
from server.generation.target import Target, target_of
from server.rag.auxiliary import is_background
from server.rag.citations import without_source_list
from server.rag.options import Mode, RagOptions
from server.rag.pipeline import Grounded, Reader
from server.resources.pool import ShelfModel
from server.services import Services


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """`sampling` is of the fields of `SamplingParams`; what is left out is the model's own default, or idle. `scope`:
    what is searched instead of what the model's id and `rag` say."""

    messages: Sequence[ChatMessage]
    model: str | None = None
    sampling: Mapping[str, Any] = {}
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    num_answers: int = 1
    toolbox: Toolbox | None = None
    form: JsonSchema | JsonObject | None = None
    options: Mapping[str, Any] = {}  # the chat template's own variables
    rag: RagOptions = RagOptions()
    scope: Scope | None = None
    priority: Priority = Priority.INTERACTIVE

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        return self.toolbox.tools if self.toolbox else ()


async def answers_to(ask: Ask, services: Services) -> Answers:
    """Started; the caller closes them. Raises whatever prevents an answer."""
    target = target_of(ask.model, services, ask.rag.collections)
    is_by_client, is_question = _is_by_client(ask), _is_question(ask)
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(services.shelf.use(target.model))
        grounded = await _grounded(ask, target, model, services, is_question=is_question)
        prompt = grounded.prompt if grounded else model.language_model.prompt(ask.messages, ask.tools, ask.options)
        constraint = await asyncio.to_thread(model.language_model.constraint, prompt, ask.toolbox, ask.form)
        sampling = SamplingParams(**{"temperature": model.resolved.temperature, **ask.sampling})
        steps = [
            model.language_model.turn(
                prompt,
                own_sampling(sampling, index),
                max_tokens=ask.max_tokens,
                stop=ask.stop,
                toolbox=ask.toolbox,
                choices=grounded.choices if grounded else (),
                constraint=constraint,
                priority=ask.priority,
            )
            for index in range(ask.num_answers)
        ]
        # What a client asks by itself is told as the model says it, whatever the conversation was grounded on.
        is_told = grounded and not is_by_client and (is_question or grounded.sources)
        grounding = _grounding(ask, grounded) if grounded and is_told else None
        answers = Answers(len(prompt.tokens), steps, grounding)
        await stack.enter_async_context(contextlib.aclosing(answers))
        await answers.start()
        answers.lease = stack.pop_all()
        return answers


async def num_prompt(ask: Ask, services: Services) -> int:
    """Tokens that the model would read. Raises whatever would prevent an answer."""
    target = target_of(ask.model, services, ask.rag.collections)
    async with services.shelf.use(target.model) as model:
        grounded = await _grounded(ask, target, model, services, is_question=_is_question(ask))
        prompt = grounded.prompt if grounded else model.language_model.prompt(ask.messages, ask.tools, ask.options)
        return len(prompt.tokens)


def _is_by_client(ask: Ask) -> bool:
    return ask.rag.mode is Mode.AUTO and is_background(ask.messages)


def _is_question(ask: Ask) -> bool:
    return ask.messages[-1].role == "user" and not _is_by_client(ask)


async def _grounded(
    ask: Ask, target: Target, model: ShelfModel, services: Services, *, is_question: bool
) -> Grounded | None:
    """None when the language model is asked alone. A question is searched for; what answers a tool's result is not, its
    question was, and what a client asks by itself is not. Then earlier turns still have their sources."""
    if not (target.is_grounded or ask.scope) or ask.rag.mode is Mode.NEVER:
        return None
    collections, chosen = ask.scope or await _scope(ask.rag, target, services)
    options = msgspec.structs.replace(ask.rag, collections=collections, chosen=chosen)
    messages = [_as_told(message) for message in ask.messages]
    return await services.grounder.ground(messages, options, reader_of(ask, model, services), is_question=is_question)


async def _scope(asked: RagOptions, target: Target, services: Services) -> Scope:
    """Raises what `Library.scope` does."""
    if not asked.vector_stores:
        return Scope(target.collections, asked.chosen)
    stores = await services.library.scope(asked.vector_stores)
    named = {*(stores.collections or ()), *(asked.collections or ())}
    return Scope(sorted(named), [*stores.chosen, *asked.chosen])


def reader_of(ask: Ask, model: ShelfModel, services: Services) -> Reader:
    language_model = model.language_model

    def render(messages: Sequence[ChatMessage]) -> Prompt:
        return language_model.prompt(messages, ask.tools, ask.options)

    return Reader(
        render,
        language_model.count_tokens,
        language_model.n_ctx,
        ask.max_tokens,
        services.brief(model),
        model.resolved.quotes and not ask.toolbox and not ask.form,
        model.resolved.asks_first,
    )


def _as_told(message: ChatMessage) -> ChatMessage:
    """An answer as the model gave it."""
    if message.role != "assistant":
        return message
    return msgspec.structs.replace(message, content=without_source_list(message.content))


def _grounding(ask: Ask, grounded: Grounded) -> Grounding:
    is_json = ask.form is not None
    return Grounding(grounded.sources, grounded.report, ask.rag.citations, is_json, grounded.remember)


def own_sampling(sampling: SamplingParams, index: int) -> SamplingParams:
    """With a seed of its own for each answer, or all would be the same."""
    if sampling.seed is None or not index:
        return sampling
    seed = (sampling.seed + index + 2**63) % 2**64 - 2**63
    return msgspec.structs.replace(sampling, seed=seed)
