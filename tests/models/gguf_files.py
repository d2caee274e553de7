"""Write small GGUFs with random weights: single files, split models and LoRA adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

BUILTIN = Path(__file__).parents[2] / "models" / "builtin" / "reader-v1.gguf"


class LlamaShape(NamedTuple):
    """Sizes of a llama model. `n_vocab` 0: the built-in vocabulary; more: with unused tokens after it."""

    layers: int = 2
    width: int = 64
    heads: int = 4
    kv_heads: int = 2
    inner: int = 128
    n_vocab: int = 0


SMALL = LlamaShape()
Tensors = dict[str, np.ndarray]


def write_llama(
    path: Path, shape: LlamaShape = SMALL, *, seed: int = 0, arrays: Mapping[str, Sequence[int]] | None = None
) -> Path:
    """Write a llama model. `arrays`: further arrays in the header."""
    writer = _writer(path, shape, arrays or {})
    _finish(writer, llama_tensors(shape, seed))
    return path


def write_fim_model(path: Path, *, seed: int = 0) -> Path:
    """Write a model with the tokens prefix, suffix, middle, repository and file, with ids from `num_tokens()` on."""
    shape = SMALL._replace(n_vocab=num_tokens() + 5)
    writer = _writer(path, shape, {})
    for number, name in enumerate(("pre", "suf", "mid", "rep", "sep")):
        writer.add_uint32(f"tokenizer.ggml.fim_{name}_token_id", num_tokens() + number)
    tensors = llama_tensors(shape, seed)
    tensors["token_embd.weight"][-5:] *= 0.1  # otherwise the model repeats these tokens, which have no text
    _finish(writer, tensors)
    return path


def num_tokens() -> int:
    """Return the size of the built-in vocabulary."""
    return len(_vocabulary().fields["tokenizer.ggml.tokens"].data)


def write_parts(folder: Path, name: str, count: int, *, seed: int = 0) -> list[Path]:
    """Write a split model as llama.cpp's `gguf-split` does: the header is in the first part."""
    shape = SMALL
    items = list(llama_tensors(shape, seed).items())
    paths = [folder / f"{name}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        writer = _writer(path, shape, {}) if number == 0 else gguf.GGUFWriter(path, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(items))
        _finish(writer, dict(items[number::count]))
    return paths


def write_lora(path: Path, shape: LlamaShape = SMALL, *, rank: int = 4, family: str = "llama") -> Path:
    """Write an adapter of all layers' query weights."""
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, family)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    names = [f"blk.{layer}.attn_q.weight" for layer in range(shape.layers)]
    down = {f"{name}.lora_a": rng.standard_normal((rank, shape.width)) for name in names}
    up = {f"{name}.lora_b": rng.standard_normal((shape.width, rank)) for name in names}
    _finish(writer, down | up)
    return path


def llama_tensors(shape: LlamaShape, seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    kv = shape.width // shape.heads * shape.kv_heads

    def matrix(rows: int, columns: int) -> np.ndarray:
        return rng.standard_normal((rows, columns), np.float32) * columns**-0.5

    blocks = {
        f"blk.{layer}.{name}.weight": tensor
        for layer in range(shape.layers)
        for name, tensor in {
            "attn_norm": np.ones(shape.width),
            "attn_q": matrix(shape.width, shape.width),
            "attn_k": matrix(kv, shape.width),
            "attn_v": matrix(kv, shape.width),
            "attn_output": matrix(shape.width, shape.width),
            "ffn_norm": np.ones(shape.width),
            "ffn_gate": matrix(shape.inner, shape.width),
            "ffn_up": matrix(shape.inner, shape.width),
            "ffn_down": matrix(shape.width, shape.inner),
        }.items()
    }
    tokens = shape.n_vocab or len(_vocabulary().fields["tokenizer.ggml.tokens"].data)
    return {"token_embd.weight": matrix(tokens, shape.width) * 8, "output_norm.weight": np.ones(shape.width), **blocks}


def _vocabulary() -> Any:
    return gguf.GGUFReader(BUILTIN)


def _writer(path: Path, shape: LlamaShape, arrays: Mapping[str, Sequence[int]]) -> Any:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, values in arrays.items():
        writer.add_array(key, list(values))
    unused = {"tokenizer.ggml.tokens": "<unused{}>", "tokenizer.ggml.token_type": 5, "tokenizer.ggml.scores": -1e4}
    for name, field in _vocabulary().fields.items():
        if not name.startswith("tokenizer."):
            continue
        value = field.contents()
        if name in unused and shape.n_vocab:
            default = unused[name]
            ids = range(len(value), shape.n_vocab)
            value = [*value, *(default.format(i) if isinstance(default, str) else default for i in ids)]
        writer.add_key_value(name, value, field.types[0], [*field.types, None][1])
    return writer


def _finish(writer: Any, tensors: Mapping[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
