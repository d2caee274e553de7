"""The trained network as a GGUF with its tokenizer and chat template inside."""

import ctypes
import json
import tempfile
from pathlib import Path

import gguf
import llama_cpp.llama_cpp as llama
import numpy as np
from tokenizers import Tokenizer

from reader.network import Shape, State, frequencies
from reader.tokens import END, PAD, SPECIAL, TEMPLATE

_ROPE_BASE = 10_000.0
_STILL = 1e-12  # radians a token, which come to nothing
_FORMATS = {"f32": 0, "q8_0": 7}  # LLAMA_FTYPE_*


def write_gguf(state: State, shape: Shape, tokenizer: Tokenizer, name: str, out: Path, form: str = "q8_0") -> None:
    """Raises `RuntimeError` when llama.cpp will not quantize it."""
    if form == "f32":
        _write(state, shape, tokenizer, name, out)
        return
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full.gguf"
        _write(state, shape, tokenizer, name, full)
        parameters = llama.llama_model_quantize_default_params()
        parameters.ftype = _FORMATS[form]
        if llama.llama_model_quantize(str(full).encode(), str(out).encode(), ctypes.byref(parameters)):
            raise RuntimeError(f"llama.cpp could not quantize {out.name} to {form}")


def _write(state: State, shape: Shape, tokenizer: Tokenizer, name: str, out: Path) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(name)
    writer.add_license("Apache-2.0")
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
    writer.add_vocab_size(len(vocabulary))
    writer.add_file_type(_FORMATS["f32"])
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
    for key, tensor in state.items():
        if key == "token_embd.weight":
            continue
        stem = key.removesuffix(".weight")
        writer.add_tensor(f"{stem}.weight", tensor.detach().float().numpy())
    embeddings = state["token_embd.weight"].detach().float().numpy()
    writer.add_tensor("token_embd.weight", embeddings * np.float32(shape.loudness))
    writer.add_tensor("output.weight", embeddings)
    usual = _ROPE_BASE ** (-np.arange(0, shape.head_size, 2) / shape.head_size)
    slower = usual / np.maximum(frequencies(shape).numpy(), _STILL)
    writer.add_tensor("rope_freqs.weight", slower.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
