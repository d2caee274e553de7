"""What is estimated before a model is loaded, against what its process then takes."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from models.catalog import read_catalog, resolve_chat
from models.llm.engine.client import open_engine
from models.llm.gguf.estimate import Estimate, context_length, estimate
from models.llm.gguf.header import numbers_by_layer
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams, SamplingParams
from tests.models.gguf_files import Shape, write_llama

BUILTIN = resolve_chat("reader-v1").path
MOST_OVER = 1.25, 90e6  # of what is measured: a share, and bytes for what short tests do not fill

# As their configurations say: layers, width, heads, heads of keys and values, head width, feed forward, vocabulary.
DENSE = {
    "qwen3-0.6b": (28, 1024, 16, 8, 128, 3072, 151_936),
    "qwen3-1.7b": (28, 2048, 16, 8, 128, 6144, 151_936),
    "llama-3.2-3b": (28, 3072, 24, 8, 128, 8192, 128_256),
    "granite-4.0-micro": (40, 2560, 40, 8, 64, 8192, 100_352),
    "gemma-3-4b": (34, 2560, 8, 4, 256, 10_240, 262_144),
    "phi-4-mini": (32, 3072, 24, 8, 128, 8192, 200_064),
    "qwen3-4b": (36, 2560, 32, 8, 128, 9728, 151_936),
    "qwen3-8b": (36, 4096, 32, 8, 128, 12_288, 151_936),
    "gpt-oss-20b": (24, 2880, 64, 8, 64, 2880, 201_088),
    "lfm2-1.2b": (16, 2048, 32, 8, 64, 8192, 65_536),
    "qwen3.5-4b": (32, 2560, 16, 4, 256, 9216, 248_320),
    "granite-4.0-h-tiny": (40, 1536, 12, 4, 128, 1024, 100_352),
}
ATTENTION_OF_LFM2 = (2, 5, 8, 10, 12, 14)
ATTENTION_OF_GRANITE = (5, 15, 25, 35)
HYBRID = {
    "lfm2-1.2b": {"shortconv.l_cache": 3},
    "qwen3.5-4b": {"full_attention_interval": 4, "ssm.inner_size": 4096, "ssm.state_size": 128, "ssm.group_count": 16},
    "granite-4.0-h-tiny": {"ssm.inner_size": 3072, "ssm.state_size": 128, "ssm.group_count": 1},
}
BY_LAYER = {
    "lfm2-1.2b": [8 * (i in ATTENTION_OF_LFM2) for i in range(16)],
    "granite-4.0-h-tiny": [4 * (i in ATTENTION_OF_GRANITE) for i in range(40)],
}


def estimated(facts: Mapping[str, int], by_layer: Mapping[str, Sequence[float]], size: int, n_vocab: int) -> Estimate:
    texts = {"general.architecture": "x", **{f"x.{key}": str(value) for key, value in facts.items()}}
    named = {f"x.{key}": values for key, values in by_layer.items()}
    return estimate(texts.get, named, size, n_vocab, EngineParams())


def of_catalog(name: str) -> Estimate:
    layers, width, heads, kv_heads, head, inner, n_vocab = DENSE[name]
    entry = read_catalog().chat[name]
    assert entry.bytes is not None
    assert entry.context is not None
    facts = {
        "context_length": entry.context,
        "block_count": layers,
        "embedding_length": width,
        "feed_forward_length": inner,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        **({"ssm.conv_kernel": 4} if "ssm.inner_size" in HYBRID.get(name, {}) else {}),
        **HYBRID.get(name, {}),
    }
    by_layer = {"attention.head_count_kv": BY_LAYER[name]} if name in BY_LAYER else {}
    return estimated(facts, by_layer, entry.bytes, n_vocab)


@pytest.mark.parametrize("name", DENSE)
def test_the_catalog_says_what_is_estimated(name: str) -> None:
    assert read_catalog().chat[name].memory == round(of_catalog(name).total, -8)


def test_every_recommended_model_has_an_estimate() -> None:
    assert set(DENSE) == {name for name, entry in read_catalog().chat.items() if entry.source}


def test_only_layers_with_attention_have_keys_and_values() -> None:
    facts = {"block_count": 8, "attention.head_count": 4, "embedding_length": 64, "ssm.inner_size": 1}
    whole = estimated(facts, {}, 0, 10).memory
    quarter = estimated({**facts, "full_attention_interval": 4}, {}, 0, 10).memory
    assert quarter == pytest.approx(whole / 4, rel=0.01)
    assert estimated(facts, {"attention.head_count_kv": [0, 0, 0, 4] * 2}, 0, 10).memory == quarter


def test_what_a_file_leaves_out_counts_as_the_largest_there_is() -> None:
    facts = {"block_count": 8, "attention.head_count": 32, "embedding_length": 4096, "context_length": 4096}
    assert estimated(facts, {}, 0, 10).memory == 8 * 2 * (3 * 4096) * (4096 + 4096)
    assert estimated({**facts, "attention.head_count_kv": 8}, {}, 0, 10).memory == 8 * 2 * (3 * 4096) * 2048


@pytest.mark.parametrize(
    ("trained", "asked", "expected"),
    [(2048, 0, 2048), (131_072, 0, 8192), (131_072, 16_384, 16_384), (512, 1024, 1024)],
)
def test_the_context_is_as_set_else_the_models_own_within_reason(trained: int, asked: int, expected: int) -> None:
    assert context_length(trained, EngineParams(n_ctx=asked)) == expected


def test_nothing_is_known_of_an_unreadable_header(tmp_path: Path) -> None:
    whole = BUILTIN.read_bytes()
    for content in (b"", b"GGUF", whole[:40], b"GGUF" + bytes(range(256)), b"text" * 100):
        path = tmp_path / "cut.gguf"
        path.write_bytes(content)
        assert numbers_by_layer(path) == {}


def test_numbers_by_layer_are_read_beside_texts_and_single_numbers(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "m.gguf", Shape(), notes={"llama.attention.sliding_window_pattern": [1, 0, 1]})
    assert numbers_by_layer(path)["llama.attention.sliding_window_pattern"] == [1, 0, 1]


def resident(pid: int) -> int:
    """Bytes of a process's memory at their most."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


async def measured(path: Path, params: EngineParams) -> int:
    """After different prompts that together fill the memory for what has been read."""
    with Vocabulary(path) as vocabulary:
        size = vocabulary.size
    async with open_engine(path, params) as engine:
        prompts = np.random.default_rng(0).integers(5, size, (2, engine.ready.n_ctx - 8)).tolist()
        for prompt in prompts:
            deltas = engine.generate(prompt, 2, SamplingParams(temperature=0))
            async with contextlib.aclosing(deltas):
                async for _ in deltas:
                    pass
        return resident(engine.pid)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["built-in", "half a billion's vocabulary", "recurrent"])
def test_the_estimate_is_enough_and_not_far_more(kind: str, tmp_path: Path, mamba: Path) -> None:
    path, params = BUILTIN, EngineParams(n_ctx=4096)
    if kind == "recurrent":
        path, params = mamba, EngineParams()
    elif kind != "built-in":
        shape = Shape(layers=4, width=256, heads=4, kv_heads=4, inner=1024, n_vocab=100_000)
        path, params = write_llama(tmp_path / "m.gguf", shape), EngineParams(n_ctx=2048)
    with Vocabulary(path) as vocabulary:
        expected = vocabulary.estimate(params).total
    taken = asyncio.run(measured(path, params))
    share, constant = MOST_OVER
    assert taken <= expected <= share * taken + constant, f"{taken / 1e6:.0f} MB taken, {expected / 1e6:.0f} estimated"
