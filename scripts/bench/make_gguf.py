"""Write a GGUF of random weights with a real model's dimensions, quantized Q4_K_M, which computes at the same speed.

    .venv/bin/pip install gguf==0.19.0
    .venv/bin/python scripts/bench/make_gguf.py --size 0.5b --vocab QWEN2_VOCAB.gguf --out /tmp/bench-0.5b.gguf

The vocabulary is copied from a GGUF that has one (llama.cpp ships vocabulary-only files with its tests).
"""

import argparse
import ctypes
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import llama_cpp.llama_cpp as llama
import numpy as np

_Q4_K_M = 15  # LLAMA_FTYPE_MOSTLY_Q4_K_M


class Shape(NamedTuple):
    """Qwen2.5's dimensions."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int


SHAPES = {"0.5b": Shape(24, 896, 14, 2, 4864), "1.5b": Shape(28, 1536, 12, 2, 8960)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="0.5b")
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
        full = Path(folder) / "f16.gguf"
        write_f16(full, SHAPES[options.size], gguf.GGUFReader(options.vocab))
        quantize(full, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.0f} MB")


def write_f16(path: Path, shape: Shape, vocab: Any) -> None:
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(f"random {path.stem}")
    writer.add_block_count(shape.layers)
    writer.add_context_length(32768)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    for name, field in vocab.fields.items():
        if name.startswith("tokenizer."):
            element = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], element)
    num_tokens = len(vocab.fields["tokenizer.ggml.tokens"].data)
    for name, tensor in tensors(shape, num_tokens):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(shape: Shape, num_tokens: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors by name: small random matrices, so that activations stay in range, unit norms, zero biases."""
    rng = np.random.default_rng(0)
    kv = shape.width // shape.heads * shape.kv_heads

    def matrix(rows: int, columns: int) -> np.ndarray:
        values: np.ndarray = rng.standard_normal((rows, columns), np.float32) * columns**-0.5
        return values.astype(np.float16)

    yield "token_embd.weight", matrix(num_tokens, shape.width)
    yield "output_norm.weight", np.ones(shape.width, np.float32)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            yield f"{block}.{norm}.weight", np.ones(shape.width, np.float32)
        for name, rows in (("attn_q", shape.width), ("attn_k", kv), ("attn_v", kv)):
            yield f"{block}.{name}.weight", matrix(rows, shape.width)
            yield f"{block}.{name}.bias", np.zeros(rows, np.float32)
        yield f"{block}.attn_output.weight", matrix(shape.width, shape.width)
        yield f"{block}.ffn_gate.weight", matrix(shape.feed_forward, shape.width)
        yield f"{block}.ffn_up.weight", matrix(shape.feed_forward, shape.width)
        yield f"{block}.ffn_down.weight", matrix(shape.width, shape.feed_forward)


def quantize(source: Path, target: Path) -> None:
    params = llama.llama_model_quantize_default_params()
    params.ftype = _Q4_K_M
    status = llama.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if status:
        raise SystemExit(f"llama.cpp could not quantize {source}: {status}")


if __name__ == "__main__":
    main()
