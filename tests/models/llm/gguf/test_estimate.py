"""The memory estimate before a model is loaded, against what its process takes."""

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
from tests.models.gguf_files import LlamaShape, write_llama

BUILTIN = resolve_chat("reader-v1").path
MAX_OVERESTIMATE = 1.25, 90e6  # a factor of the measured memory, and bytes that short tests do not fill

# From their configurations: layers, width, heads, KV heads, head width, feed forward, vocabulary.
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


def estimate_from(
    values: Mapping[str, int], by_layer: Mapping[str, Sequence[float]], size: int, n_vocab: int
) -> Estimate:
    texts = {"general.architecture": "x", **{f"x.{key}": str(value) for key, value in values.items()}}
    keyed = {f"x.{key}": values for key, values in by_layer.items()}
    return estimate(texts.get, keyed, size, n_vocab, EngineParams())


def catalog_estimate(name: str) -> Estimate:
    layers, width, heads, kv_heads, head, inner, n_vocab = DENSE[name]
    entry = read_catalog().chat[name]
    assert entry.bytes is not None
    assert entry.context is not None
    values = {
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
    return estimate_from(values, by_layer, entry.bytes, n_vocab)


@pytest.mark.parametrize("name", DENSE)
def test_the_catalog_s_memory_is_the_estimate(name: str) -> None:
    assert read_catalog().chat[name].memory == round(catalog_estimate(name).total, -8)


def test_every_recommended_model_is_estimated_here() -> None:
    assert set(DENSE) == {name for name, entry in read_catalog().chat.items() if entry.source}


def test_only_layers_with_attention_have_keys_and_values() -> None:
    values = {"block_count": 8, "attention.head_count": 4, "embedding_length": 64, "ssm.inner_size": 1}
    whole = estimate_from(values, {}, 0, 10).memory
    quarter = estimate_from({**values, "full_attention_interval": 4}, {}, 0, 10).memory
    assert quarter == pytest.approx(whole / 4, rel=0.01)
    assert estimate_from(values, {"attention.head_count_kv": [0, 0, 0, 4] * 2}, 0, 10).memory == quarter


def test_a_missing_number_is_assumed_to_be_the_largest() -> None:
    values = {"block_count": 8, "attention.head_count": 32, "embedding_length": 4096, "context_length": 4096}
    assert estimate_from(values, {}, 0, 10).memory == 8 * 2 * (3 * 4096) * (4096 + 4096)
    assert estimate_from({**values, "attention.head_count_kv": 8}, {}, 0, 10).memory == 8 * 2 * (3 * 4096) * 2048


@pytest.mark.parametrize(
    ("trained", "setting", "expected"),
    [(2048, 0, 2048), (131_072, 0, 8192), (131_072, 16_384, 16_384), (512, 1024, 1024)],
)
def test_context_length_is_the_setting_or_the_trained_length_up_to_8192(
    trained: int, setting: int, expected: int
) -> None:
    assert context_length(trained, EngineParams(n_ctx=setting)) == expected


def test_numbers_by_layer_is_empty_for_an_unreadable_header(tmp_path: Path) -> None:
    whole = BUILTIN.read_bytes()
    for content in (b"", b"GGUF", whole[:40], b"GGUF" + bytes(range(256)), b"text" * 100):
        path = tmp_path / "cut.gguf"
        path.write_bytes(content)
        assert numbers_by_layer(path) == {}


def test_numbers_by_layer_reads_arrays_among_other_values(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "m.gguf", LlamaShape(), arrays={"llama.attention.sliding_window_pattern": [1, 0, 1]})
    assert numbers_by_layer(path)["llama.attention.sliding_window_pattern"] == [1, 0, 1]


def peak_memory(pid: int) -> int:
    """Return the peak resident memory of a process in bytes."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


async def measure_memory(path: Path, params: EngineParams) -> int:
    """Return an engine's peak memory after prompts that together fill its KV cache."""
    with Vocabulary(path) as vocabulary:
        size = vocabulary.size
    async with open_engine(path, params) as engine:
        prompts = np.random.default_rng(0).integers(5, size, (2, engine.ready.n_ctx - 8)).tolist()
        for prompt in prompts:
            deltas = engine.generate(prompt, 2, SamplingParams(temperature=0))
            async with contextlib.aclosing(deltas):
                async for _ in deltas:
                    pass
        return peak_memory(engine.pid)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["built-in", "large vocabulary", "recurrent"])
def test_the_estimate_covers_the_measured_memory_and_not_far_more(kind: str, tmp_path: Path, mamba: Path) -> None:
    path, params = BUILTIN, EngineParams(n_ctx=4096)
    if kind == "recurrent":
        path, params = mamba, EngineParams()
    elif kind != "built-in":
        shape = LlamaShape(layers=4, width=256, heads=4, kv_heads=4, inner=1024, n_vocab=100_000)
        path, params = write_llama(tmp_path / "m.gguf", shape), EngineParams(n_ctx=2048)
    with Vocabulary(path) as vocabulary:
        expected = vocabulary.estimate(params).total
    measured = asyncio.run(measure_memory(path, params))
    factor, constant = MAX_OVERESTIMATE
    assert measured <= expected <= factor * measured + constant, (
        f"{measured / 1e6:.0f} MB measured, {expected / 1e6:.0f} estimated"
    )
