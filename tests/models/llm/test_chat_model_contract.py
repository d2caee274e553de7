"""The contract of `models.llm.base.ChatModel`, over the implementations in tests/model_sources.py."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from models.errors import ContextLengthExceeded
from models.llm.base import Capabilities, ChatModel, CompletionModel
from models.llm.chat.events import Content, EndReason, TurnEnd, TurnEvent
from models.llm.chat.messages import ChatMessage
from models.llm.params import SamplingParams
from tests.model_sources import SOURCES, Opener

T = TypeVar("T")
GREEDY = SamplingParams(temperature=0)
QUESTION = [ChatMessage.of_text("user", "How long is leave?")]


@pytest.fixture(params=SOURCES.values(), ids=SOURCES)
def opener(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


def run(opener: Opener, folder: Path, use: Callable[[ChatModel], Awaitable[T]]) -> T:
    """Use a loaded chat model."""

    async def main() -> T:
        async with opener(folder) as (source, _):
            source.load()
            await source.wait_until_loaded()
            try:
                return await use(source.chat_model)
            finally:
                await source.unload()

    return asyncio.run(main())


def run_completion(opener: Opener, folder: Path, use: Callable[[CompletionModel], Awaitable[T]]) -> T:
    """Use a loaded model with bare prompts; skip the test for a model that only continues conversations."""

    async def main() -> T:
        async with opener(folder) as (source, _):
            if source.completion_model is None:
                pytest.skip("the model continues conversations only")
            source.load()
            await source.wait_until_loaded()
            try:
                return await use(source.completion_model)
            finally:
                await source.unload()

    return asyncio.run(main())


async def generate(
    model: ChatModel,
    messages: Sequence[ChatMessage] = QUESTION,
    *,
    max_tokens: int | None = None,
    stop: Sequence[str] = (),
    choices: Sequence[str] = (),
) -> list[list[TurnEvent]]:
    prompt = model.prompt(messages)
    steps = model.generate(prompt, GREEDY, max_tokens=max_tokens, stop=stop, choices=choices, client="")
    async with contextlib.aclosing(steps):
        return [events async for events in steps]


def text_of(steps: Sequence[Sequence[TurnEvent]]) -> str:
    return "".join(event.text for events in steps for event in events if isinstance(event, Content))


def end_of(steps: Sequence[Sequence[TurnEvent]]) -> TurnEnd:
    end = steps[-1][-1]
    assert isinstance(end, TurnEnd)
    return end


def test_a_model_tells_its_name_context_and_capabilities(opener: Opener, tmp_path: Path) -> None:
    async def describe(model: ChatModel) -> tuple[str, int, Capabilities]:
        return model.name, model.context_length, model.capabilities

    name, context_length, capabilities = run(opener, tmp_path, describe)
    assert name
    assert context_length > 0
    assert isinstance(capabilities, Capabilities)


def test_a_longer_text_has_more_tokens(opener: Opener, tmp_path: Path) -> None:
    async def count(model: ChatModel) -> list[int]:
        return [model.count_tokens(text) for text in ("", "weeks", "weeks of leave, and then some more")]

    none, few, more = run(opener, tmp_path, count)
    assert none == 0 < few < more


def test_a_prompt_has_all_messages(opener: Opener, tmp_path: Path) -> None:
    async def sizes(model: ChatModel) -> list[int]:
        longer = [*QUESTION, ChatMessage.of_text("assistant", "16 weeks."), ChatMessage.of_text("user", "Sure?")]
        return [model.prompt(messages).num_tokens for messages in (QUESTION, longer)]

    one, three = run(opener, tmp_path, sizes)
    assert 0 < one < three


def test_the_only_end_is_the_last_event(opener: Opener, tmp_path: Path) -> None:
    async def steps(model: ChatModel) -> list[list[TurnEvent]]:
        return await generate(model, max_tokens=20)

    events = [event for step in run(opener, tmp_path, steps) for event in step]
    assert [at for at, event in enumerate(events) if isinstance(event, TurnEnd)] == [len(events) - 1]


def test_max_tokens_cuts_an_answer(opener: Opener, tmp_path: Path) -> None:
    async def steps(model: ChatModel) -> list[list[TurnEvent]]:
        return await generate(model, max_tokens=2)

    end = end_of(run(opener, tmp_path, steps))
    assert (end.reason, end.num_generated) == (EndReason.LENGTH, 2)


def test_an_answer_is_one_of_the_choices(opener: Opener, tmp_path: Path) -> None:
    async def steps(model: ChatModel) -> list[list[TurnEvent]]:
        return await generate(model, choices=["16 weeks", "30 days"])

    generated = run(opener, tmp_path, steps)
    assert text_of(generated) in ("16 weeks", "30 days")
    assert end_of(generated).reason is EndReason.STOP


def test_a_prompt_without_room_for_an_answer_is_refused(opener: Opener, tmp_path: Path) -> None:
    async def ask(model: ChatModel) -> tuple[int, ContextLengthExceeded]:
        with pytest.raises(ContextLengthExceeded) as caught:
            await generate(model, [ChatMessage.of_text("user", "leave " * model.context_length)])
        return model.context_length, caught.value

    context_length, error = run(opener, tmp_path, ask)
    assert error.num_prompt >= error.n_ctx == context_length


def test_closing_a_generation_leaves_the_model_usable(opener: Opener, tmp_path: Path) -> None:
    async def close_then_ask(model: ChatModel) -> list[list[TurnEvent]]:
        steps = model.generate(model.prompt(QUESTION), GREEDY, client="")
        await anext(steps)
        await steps.aclose()
        return await generate(model, max_tokens=2)

    end_of(run(opener, tmp_path, close_then_ask))


def test_generations_run_at_the_same_time(opener: Opener, tmp_path: Path) -> None:
    async def ask_twice(model: ChatModel) -> list[list[list[TurnEvent]]]:
        return await asyncio.gather(*(generate(model, max_tokens=4) for _ in range(2)))

    first, second = run(opener, tmp_path, ask_twice)
    assert text_of(first) == text_of(second)


def test_a_bare_prompt_is_continued(opener: Opener, tmp_path: Path) -> None:
    async def complete(model: CompletionModel) -> list[list[TurnEvent]]:
        prompt = model.tokenizer.encode_prompt("Leave is")
        steps = model.complete(prompt, GREEDY, max_tokens=3, client="")
        async with contextlib.aclosing(steps):
            return [events async for events in steps]

    assert end_of(run_completion(opener, tmp_path, complete)).num_generated == 3


def test_tokens_of_a_text_are_its_text_again(opener: Opener, tmp_path: Path) -> None:
    async def round_trip(model: CompletionModel) -> tuple[str, bytes]:
        tokens = model.tokenizer.tokenize("16 weeks")
        return model.tokenizer.detokenize(tokens), b"".join(model.tokenizer.token_bytes(tokens))

    assert run_completion(opener, tmp_path, round_trip) == ("16 weeks", b"16 weeks")
