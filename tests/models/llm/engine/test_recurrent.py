"""A model whose memory is one state that cannot be cut (Mamba, random weights): prefixes are kept as checkpoints."""

import asyncio
import contextlib
from pathlib import Path

import numpy as np

from models.llm.engine.client import EngineClient, open_engine
from models.llm.params import EngineParams, SamplingParams

ENDLESS = SamplingParams(temperature=0, logit_bias={1: -1e9})  # never samples the end token


async def answer(engine: EngineClient, prompt: list[int]) -> tuple[list[int], int]:
    """Return twelve tokens, and how many of the prompt's tokens were in memory."""
    tokens, num_cached = [], 0
    deltas = engine.generate(prompt, 12, ENDLESS)
    async with contextlib.aclosing(deltas):
        async for delta in deltas:
            tokens += delta.tokens
            num_cached = delta.num_cached
    return tokens, num_cached


def test_a_conversation_computes_only_its_new_turns_and_gets_the_same_answers(mamba: Path) -> None:
    turns = np.random.default_rng(0).integers(5, 4000, (4, 40)).tolist()

    async def scenario() -> None:
        turns_and_answers: list[tuple[list[int], list[int]]] = []
        async with open_engine(mamba, EngineParams()) as engine:
            conversation: list[int] = []
            for turn in turns:
                num_previous = len(conversation)
                conversation += turn
                tokens, num_cached = await answer(engine, conversation)
                assert num_cached == max(num_previous - 1, 0), (
                    "all but the last sampled token, which was never computed"
                )
                turns_and_answers.append((list(conversation), tokens))
                conversation += tokens
            at_once = await asyncio.gather(
                *(answer(engine, prompt) for prompt, _ in turns_and_answers for _ in range(3))
            )
            assert [tokens for tokens, _ in at_once] == [tokens for _, tokens in turns_and_answers for _ in range(3)]
        async with open_engine(mamba, EngineParams()) as cold_engine:
            for prompt, tokens in reversed(turns_and_answers):
                assert await answer(cold_engine, prompt) == (tokens, 0)

    asyncio.run(scenario())
