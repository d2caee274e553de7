"""A model whose memory is one state that cannot be cut (Mamba, random weights): prefixes come back by checkpoints."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from models.llm.client import EngineClient, open_engine
from models.llm.params import EngineParams, SamplingParams

BUILTIN = Path(__file__).parents[2] / "models" / "builtin" / "reader-v0.gguf"
WIDTH, INNER, STATE, RANK, LAYERS = 64, 128, 16, 8, 2
TALKS_ON = SamplingParams(temperature=0, logit_bias={1: -1e9})  # never the end token


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mamba") / "mamba.gguf"
    vocabulary: Any = gguf.GGUFReader(BUILTIN)
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_block_count(LAYERS)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, field in vocabulary.fields.items():
        if name.startswith("tokenizer."):
            writer.add_key_value(name, field.contents(), field.types[0], [*field.types, None][1])
    for name, tensor in tensors(len(vocabulary.fields["tokenizer.ggml.tokens"].data)).items():
        writer.add_tensor(name, tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(num_tokens: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)

    def matrix(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) * shape[-1] ** -0.5

    blocks = {
        f"blk.{layer}.{name}": tensor
        for layer in range(LAYERS)
        for name, tensor in {
            "attn_norm.weight": np.ones(WIDTH),
            "ssm_in.weight": matrix(2 * INNER, WIDTH),
            "ssm_conv1d.weight": matrix(INNER, 4),
            "ssm_conv1d.bias": matrix(INNER),
            "ssm_x.weight": matrix(RANK + 2 * STATE, INNER),
            "ssm_dt.weight": matrix(INNER, RANK),
            "ssm_dt.bias": matrix(INNER),
            "ssm_a": -np.exp(matrix(INNER, STATE)),
            "ssm_d": np.ones(INNER),
            "ssm_out.weight": matrix(WIDTH, INNER),
        }.items()
    }
    return {"token_embd.weight": matrix(num_tokens, WIDTH) * 8, "output_norm.weight": np.ones(WIDTH), **blocks}


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
