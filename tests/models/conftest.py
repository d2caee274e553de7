"""Small models for tests, and the bundled embedding model, converted once for all test runs."""

import asyncio
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from models.catalog import resolve_embedding
from models.encoder.messages import ModelFiles
from models.encoder.model_exports import ModelExports
from tests.models.tiny_encoders import config, make_embedder, tokenizer

BUILTIN = Path(__file__).parents[2] / "models" / "builtin" / "reader-v1.gguf"
WIDTH, INNER, STATE, RANK, LAYERS = 64, 128, 16, 8, 2


@pytest.fixture(scope="session")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent model with random weights and the built-in vocabulary."""
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
    for name, tensor in mamba_tensors(len(vocabulary.fields["tokenizer.ggml.tokens"].data)).items():
        writer.add_tensor(name, tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def mamba_tensors(num_tokens: int) -> dict[str, np.ndarray]:
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


@pytest.fixture(scope="session")
def minilm(request: pytest.FixtureRequest) -> ModelFiles:
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("converted")
    return asyncio.run(ModelExports(cache).files(resolve_embedding("all-MiniLM-L6-v2"), "embedding"))


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("embedder"), tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def tiny_reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("reranker")
    BertForSequenceClassification(config(num_labels=1)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
