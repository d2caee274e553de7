"""How much memory a model will take, told before it is loaded from what its file says of itself."""

from collections.abc import Callable
from typing import NamedTuple

from models.llm.params import EngineParams

_DEFAULT_N_CTX = 8192
_STATE_BYTES, _CELL_BYTES = 4, 2  # of a number: recurrent states are float32, keys and values float16
_PROCESS = 120_000_000  # bytes: Python, llama.cpp, the tables of a large vocabulary


class Estimate(NamedTuple):
    """Bytes. `weights` are the files' size; `memory` is what has been read: keys and values, or recurrent states."""

    weights: int
    memory: int
    buffers: int
    n_ctx: int

    @property
    def total(self) -> int:
        return self.weights + self.memory + self.buffers


def context_length(trained: int, params: EngineParams) -> int:
    """Tokens of one conversation: as set, else the model's own up to 8192."""
    return params.n_ctx or min(trained, _DEFAULT_N_CTX)


def estimate(metadata: Callable[[str], str | None], file_bytes: int, n_vocab: int, params: EngineParams) -> Estimate:
    """`metadata` gives a GGUF's values by key, as text; numbers that differ by layer it does not give.

    Where a file leaves a number out, what is largest for its kind is taken: the estimate errs upwards.
    """
    family = metadata("general.architecture") or ""

    def number(key: str, default: int = 0) -> int:
        value = metadata(f"{family}.{key}")
        return int(float(value)) if value and value.replace(".", "", 1).isdigit() else default

    n_ctx = context_length(number("context_length", _DEFAULT_N_CTX), params)
    width, layers = number("embedding_length"), number("block_count")
    heads = number("attention.head_count")
    kv_heads = number("attention.head_count_kv", heads)
    head_width = width // heads if heads else 0
    cell = kv_heads * (number("attention.key_length", head_width) + number("attention.value_length", head_width))
    state = number("ssm.inner_size") * (number("ssm.state_size") + number("ssm.conv_kernel"))
    n_cells, n_states = (4 * n_ctx, 12) if state else (2 * n_ctx, 0)
    memory = layers * (_CELL_BYTES * n_cells * cell + _STATE_BYTES * n_states * state)
    activations = 4 * params.n_batch * (n_vocab + 8 * width + 3 * number("feed_forward_length", 4 * width))
    return Estimate(file_bytes, memory, activations + _PROCESS, n_ctx)
