"""Estimate how much memory a model takes, from its file's header, before it is loaded."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from models.llm.params import EngineParams

_DEFAULT_N_CTX = 8192
MAX_RECURRENT = 4  # slots, and cached prefixes, of a recurrent or hybrid model, which has a whole state for each
_STATE_BYTES, _CELL_BYTES = 4, 2  # of one number: recurrent states are float32, keys and values float16
_PROCESS_BYTES = 120_000_000  # Python, llama.cpp, the tables of a large vocabulary


class Estimate(NamedTuple):
    """Sizes in bytes. `weights`: the files' size. `memory`: keys and values, with those of offloaded prefixes, or
    recurrent states."""

    weights: int
    memory: int
    buffers: int
    n_ctx: int

    @property
    def total(self) -> int:
        return self.weights + self.memory + self.buffers


def context_length(trained: int, params: EngineParams) -> int:
    """Return the tokens of one conversation: the setting, or else the model's own length up to 8192."""
    return params.n_ctx or min(trained, _DEFAULT_N_CTX)


def estimate(
    metadata: Callable[[str], str | None],
    by_layer: Mapping[str, Sequence[float]],
    file_bytes: int,
    n_vocab: int,
    params: EngineParams,
) -> Estimate:
    """Estimate a model's memory. `metadata`: a GGUF's values by key, as text. `by_layer`: those that differ by layer.

    Where a file leaves a number out, the largest of its kind is assumed: the estimate errs upwards.
    """
    family = metadata("general.architecture") or ""

    def number(key: str, default: int = 0) -> int:
        if layers := by_layer.get(f"{family}.{key}"):
            return int(max(layers))
        value = metadata(f"{family}.{key}")
        return int(float(value)) if value and value.replace(".", "", 1).isdigit() else default

    n_ctx = context_length(number("context_length", _DEFAULT_N_CTX), params)
    width, num_layers = number("embedding_length"), number("block_count")
    heads = number("attention.head_count")
    head_width = width // heads if heads else 0
    cell = number("attention.key_length", head_width) + number("attention.value_length", head_width)
    kv_heads = by_layer.get(f"{family}.attention.head_count_kv") or _kv_heads(
        num_layers, number("attention.head_count_kv", heads), number("full_attention_interval", 1)
    )
    inner, depth, groups = number("ssm.inner_size"), number("ssm.state_size"), number("ssm.group_count")
    window = max(number("ssm.conv_kernel") - 1, 0) * (inner + 2 * groups * depth)
    state = inner * depth + window + max(number("shortconv.l_cache") - 1, 0) * width
    num_states = sum(not each for each in kv_heads) or num_layers  # in hybrid models, only layers without attention
    num_cells, num_sequences = (4 * n_ctx, 3 * MAX_RECURRENT) if state else (2 * n_ctx, 0)
    offloaded = 0 if state else n_ctx if params.offload_tokens < 0 else params.offload_tokens
    memory = (
        _CELL_BYTES * (num_cells + offloaded) * cell * int(sum(kv_heads))
        + _STATE_BYTES * num_sequences * state * num_states
    )
    activations = 4 * params.n_batch * (n_vocab + 8 * width + 3 * number("feed_forward_length", 4 * width))
    return Estimate(file_bytes, memory, activations + _PROCESS_BYTES, n_ctx)


def _kv_heads(num_layers: int, each: int, interval: int) -> list[int]:
    """Return each layer's number of KV heads; with an interval, only every `interval`-th layer has attention."""
    return [each if interval and (layer + 1) % interval == 0 else 0 for layer in range(num_layers)]
