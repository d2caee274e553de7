"""A model whose memory is one state that cannot be cut (Mamba, random weights): prefixes come back by checkpoints."""

import asyncio
import contextlib
from pathlib import Path

import numpy as np

from models.llm.engine.client import EngineClient, open_engine
from models.llm.params import EngineParams, SamplingParams

TALKS_ON = SamplingParams(temperature=0, logit_bias={1: -1e9})  # never the end token


async def answer(engine: EngineClient, prompt: list[int]) -> tuple[list[int], int]:
    """Twelve tokens, and how many of the prompt's were in memory."""
    tokens, num_cached = [], 0
    deltas = engine.generate(prompt, 12, TALKS_ON)
    async with contextlib.aclosing(deltas):
        async for delta in deltas:
            tokens += delta.tokens
            num_cached = delta.num_cached
    return tokens, num_cached


def test_a_conversation_computes_only_its_new_turns_and_says_the_same_as_computing_all(mamba: Path) -> None:
    turns = np.random.default_rng(0).integers(5, 4000, (4, 40)).tolist()

    async def scenario() -> None:
        asked: list[tuple[list[int], list[int]]] = []
        async with open_engine(mamba, EngineParams()) as engine:
            conversation: list[int] = []
            for turn in turns:
                num_known = len(conversation)
                conversation += turn
                tokens, num_cached = await answer(engine, conversation)
                assert num_cached == max(num_known - 1, 0), "all up to the last token drawn, which was never read"
                asked.append((list(conversation), tokens))
                conversation += tokens
            at_once = await asyncio.gather(*(answer(engine, prompt) for prompt, _ in asked for _ in range(3)))
            assert [tokens for tokens, _ in at_once] == [tokens for _, tokens in asked for _ in range(3)]
        async with open_engine(mamba, EngineParams()) as fresh:
            for prompt, tokens in reversed(asked):
                assert await answer(fresh, prompt) == (tokens, 0)

    asyncio.run(scenario())
