"""Writes the trained network as a GGUF file, with its tokenizer and chat template."""

import ctypes
import json
import tempfile
from pathlib import Path

import gguf
import llama_cpp.llama_cpp as llama
import numpy as np
from tokenizers import Tokenizer

from reader.network import Shape, State, rope_frequencies
from reader.tokens import END, PAD, SPECIAL, TEMPLATE

_ROPE_BASE = 10_000.0
_MIN_FREQUENCY = 1e-12  # radians a token; stands for no rotation
_FORMATS = {"f32": 0, "q8_0": 7}  # LLAMA_FTYPE_*


def write_gguf(state: State, shape: Shape, tokenizer: Tokenizer, name: str, out: Path, format: str = "q8_0") -> None:
    """Write the file in this format. Raises `RuntimeError` when llama.cpp cannot quantize it."""
    if format == "f32":
        _write(state, shape, tokenizer, name, out)
        return
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full.gguf"
        _write(state, shape, tokenizer, name, full)
        parameters = llama.llama_model_quantize_default_params()
        parameters.ftype = _FORMATS[format]
        if llama.llama_model_quantize(str(full).encode(), str(out).encode(), ctypes.byref(parameters)):
            raise RuntimeError(f"llama.cpp could not quantize {out.name} to {format}")


def _write(state: State, shape: Shape, tokenizer: Tokenizer, name: str, out: Path) -> None:
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(name)
    writer.add_license("Apache-2.0")
    _add_shape(writer, shape)
    _add_tokenizer(writer, tokenizer)
    _add_tensors(writer, state, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(_ROPE_BASE)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(_FORMATS["f32"])


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in SPECIAL else normal for token in vocabulary])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(END)
    writer.add_eot_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)


def _add_tensors(writer: gguf.GGUFWriter, state: State, shape: Shape) -> None:
    for key, tensor in state.items():
        if key != "token_embd.weight":
            writer.add_tensor(f"{key.removesuffix('.weight')}.weight", tensor.detach().float().numpy())
    embeddings = state["token_embd.weight"].detach().float().numpy()
    writer.add_tensor("token_embd.weight", embeddings * np.float32(shape.embedding_scale))
    writer.add_tensor("output.weight", embeddings)
    usual = _ROPE_BASE ** (-np.arange(0, shape.head_size, 2) / shape.head_size)
    factors = usual / np.maximum(rope_frequencies(shape).numpy(), _MIN_FREQUENCY)
    writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
