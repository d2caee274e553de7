"""The engine's side of llama.cpp: loaded weights, one context, and the steps that the scheduler plans.

Everything here owns a C object and frees it once, on `close`. A `LlamaRunner` belongs to one thread.
"""

import contextlib
import ctypes
import os
from collections.abc import Sequence as Sequences
from pathlib import Path
from typing import Any, Self

import llama_cpp
import llama_cpp.llama_cpp as C
import numpy as np
from numpy.typing import NDArray

from models.errors import ModelFileError
from models.llm.engine.messages import TokenLogprobs
from models.llm.engine.sequence import Sequence
from models.llm.engine.step import Limits, ScheduledChunk, Step
from models.llm.engine.step_cost import CPU_COST, GPU_COST
from models.llm.gguf.estimate import MAX_RECURRENT, context_length
from models.llm.gguf.files import model_parts
from models.llm.gguf.identity import identity_of
from models.llm.kv.base import State
from models.llm.kv.prefix_cache import CopyCells, MemoryOperation, RemoveCells
from models.llm.llama.loading import check_magic, error_log, load_model
from models.llm.llama.sampler import sampler_chain, token_logprobs
from models.llm.params import Adapter, EngineParams
from models.threads import num_physical_cores


class LlamaRunner:
    """A model's weights and one context. Computes the scheduler's steps and samples the next tokens."""

    def __init__(self, path: Path, params: EngineParams, adapters: Sequences[Adapter] = ()) -> None:
        """Load the model. Raises `ModelFileError` when a file cannot be loaded or the context cannot be created."""
        with contextlib.ExitStack() as stack:
            self._model = load_model(path, n_gpu_layers=params.n_gpu_layers)
            stack.callback(C.llama_model_free, self._model)
            self.limits = self._limits(params)
            self._context = self._open_context(path, params)
            stack.callback(C.llama_free, self._context)
            self._apply_adapters(adapters)
            self._batch = C.llama_batch_init(params.n_batch, 0, 1)
            stack.callback(C.llama_batch_free, self._batch)
            self._memory = C.llama_get_memory(self._context)
            self._vocab = C.llama_model_get_vocab(self._model)
            self._n_vocab: int = C.llama_vocab_n_tokens(self._vocab)
            self.end_tokens = frozenset(
                token for token in range(self._n_vocab) if C.llama_vocab_is_eog(self._vocab, token)
            )
            self.num_params: int = C.llama_model_n_params(self._model)
            self.size: int = C.llama_model_size(self._model)
            files = [*model_parts(path), *(Path(adapter.path) for adapter in adapters)]
            scales = [str(adapter.scale) for adapter in adapters]
            self.identity = identity_of(
                files, llama_cpp.__version__, str(self.limits.supports_partial_removal), *scales
            )
            self._samplers: dict[Sequence, Any] = {}
            self._logprobs: dict[Sequence, list[TokenLogprobs]] = {}
            self._fields = self._batch_views(params.n_batch)
            self._resources = stack.pop_all()

    def _limits(self, params: EngineParams) -> Limits:
        """Return the engine's sizes. Recurrent and hybrid models keep a whole state for each slot, so they get few."""
        n_ctx = context_length(C.llama_model_n_ctx_train(self._model), params)
        if C.llama_model_is_recurrent(self._model) or C.llama_model_is_hybrid(self._model):
            return Limits(
                num_slots=min(params.num_slots, MAX_RECURRENT),
                num_cached_prefixes=min(params.num_cached_prefixes, MAX_RECURRENT),
                n_batch=params.n_batch,
                num_cells=4 * n_ctx,
                n_ctx=n_ctx,
                supports_partial_removal=False,
            )
        uses_gpu = C.llama_supports_gpu_offload() and params.n_gpu_layers != 0
        return Limits(
            num_slots=params.num_slots,
            num_cached_prefixes=params.num_cached_prefixes,
            n_batch=params.n_batch,
            num_cells=2 * n_ctx,
            n_ctx=n_ctx,
            step_cost=GPU_COST if uses_gpu else CPU_COST,
        )

    def _open_context(self, path: Path, params: EngineParams) -> Any:
        fields = C.llama_context_default_params()
        fields.n_ctx = self.limits.num_cells
        fields.n_batch = max(
            params.n_batch, self.limits.num_sequences
        )  # llama.cpp aborts the process when it is less than n_seq_max
        fields.n_ubatch = params.n_batch
        fields.n_seq_max = self.limits.num_sequences
        fields.kv_unified = True
        fields.n_threads = fields.n_threads_batch = params.num_threads or num_physical_cores()
        context = C.llama_init_from_model(self._model, fields)
        if not context:
            reason = error_log().first("not enough memory?")
            raise ModelFileError(
                path, f"no context of {self.limits.num_cells} tokens could be created for it: {reason}"
            )
        return context

    def _apply_adapters(self, adapters: Sequences[Adapter]) -> None:
        """Load LoRA adapters; they belong to the model and are freed with it."""
        loaded = []
        for adapter in adapters:
            path = Path(adapter.path)
            check_magic(path)
            error_log().clear()
            if not (pointer := C.llama_adapter_lora_init(self._model, os.fsencode(path))):
                reason = error_log().first("it is no LoRA adapter of this model")
                raise ModelFileError(path, f"llama.cpp cannot apply it: {reason}")
            loaded.append((pointer, adapter.scale))
        if loaded:
            pointers = (C.llama_adapter_lora_p_ctypes * len(loaded))(*(pointer for pointer, _ in loaded))
            scales = (ctypes.c_float * len(loaded))(*(scale for _, scale in loaded))
            C.llama_set_adapters_lora(self._context, pointers, len(loaded), scales)

    def _batch_views(self, n_batch: int) -> dict[str, np.ndarray]:
        """Return the C batch's arrays as numpy views; `seq_id` is an array of pointers, each to one id."""
        view = np.ctypeslib.as_array
        sequence_ids = [view(self._batch.seq_id[i], shape=(1,)) for i in range(n_batch)]
        self._sequence_ids = sequence_ids
        return {
            name: view(getattr(self._batch, name), shape=(n_batch,)) for name in ("token", "pos", "n_seq_id", "logits")
        }

    def compute(self, step: Step) -> list[list[int]]:
        """Compute a step; return for each chunk that wants a token the accepted draft tokens and a sampled one.

        Raises `RuntimeError` when llama.cpp refuses the batch; the memory of its chunks is then not to be used.
        """
        self.apply(step.operations)
        ends = self._fill(step.chunks)
        status = C.llama_decode(self._context, self._batch) if ends else 0
        if status:
            raise RuntimeError(f"llama_decode returned {status}")
        return [
            self._sample_chunk(chunk, end - 1 - chunk.num_draft) if chunk.wants_token else []
            for chunk, end in zip(step.chunks, ends, strict=True)
        ]

    def apply(self, operations: list[MemoryOperation]) -> None:
        """Carry out operations on the KV cache, in order."""
        for operation in operations:
            match operation:
                case CopyCells(source, target, start, end):
                    C.llama_memory_seq_cp(self._memory, source, target, start, end)
                case RemoveCells(slot, start, end):
                    C.llama_memory_seq_rm(self._memory, slot, start, end)

    def save(self, slot: int) -> State:
        """Copy a slot's state, for `load` of the same model in this run or a later one."""
        size = C.llama_state_seq_get_size(self._context, slot)
        state = np.empty(size, np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        written = C.llama_state_seq_get_data(self._context, pointer, size, slot)
        return state[:written].data

    def load(self, slot: int, state: State) -> bool:
        """Fill an empty slot with a saved state. False when it does not fit; the caller then empties the slot."""
        pointer = np.frombuffer(state, np.uint8).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        return int(C.llama_state_seq_set_data(self._context, pointer, len(state), slot)) == len(state)

    def _fill(self, chunks: list[ScheduledChunk]) -> list[int]:
        """Write the chunks into the C batch, and return the row after each chunk's last."""
        fields, end = self._fields, 0
        ends: list[int] = []
        for sequence, position, tokens, num_draft, wants_token in chunks:
            assert sequence.lease is not None
            start, end = end, end + len(tokens)
            rows = slice(start, end)
            fields["token"][rows] = tokens
            fields["pos"][rows] = np.arange(position, position + len(tokens))
            fields["n_seq_id"][rows] = 1
            fields["logits"][rows] = 0
            if wants_token:
                fields["logits"][end - 1 - num_draft : end] = 1
            for i in range(start, end):
                self._sequence_ids[i][0] = sequence.lease.slot
            ends.append(end)
        self._batch.n_tokens = end
        return ends

    def _sample_chunk(self, chunk: ScheduledChunk, row: int) -> list[int]:
        """Sample token by token from `row` on, as long as the draft's token is the one that the sampler draws."""
        sampled: list[int] = []
        for draft_token in [*chunk.tokens[len(chunk.tokens) - chunk.num_draft :], None]:
            sampled.append(self._sample(chunk.sequence, row + len(sampled), sampled))
            if sampled[-1] != draft_token:
                break
        return sampled

    def _sample(self, sequence: Sequence, row: int, accepted: list[int]) -> int:
        allowed, num_logprobs = sequence.allowed_tokens(accepted), sequence.sampling.num_logprobs
        logits = np.ctypeslib.as_array(C.llama_get_logits_ith(self._context, row), shape=(self._n_vocab,))
        own = logits if allowed is None and num_logprobs is None else logits.copy()
        if allowed is not None:
            ids = np.asarray(allowed, np.intp)
            logits[:] = -np.inf
            logits[ids] = own[ids]
        token = self._choose(sequence, row, logits)
        if allowed is not None and logits[token] == -np.inf:  # the sampler's settings excluded every allowed token
            token = int(ids[own[ids].argmax()])
        if num_logprobs is not None:
            self._logprobs.setdefault(sequence, []).append(token_logprobs(own, token, num_logprobs))
        return token

    def _choose(self, sequence: Sequence, row: int, logits: NDArray[np.float32]) -> int:
        """Return the next token. Greedy sampling avoids llama.cpp's samplers, which copy the whole vocabulary first."""
        sampling = sequence.sampling
        if sampling.temperature or sampling.has_memory:
            return int(C.llama_sampler_sample(self._sampler(sequence), self._context, row))
        for token, bias in sampling.logit_bias.items():
            if 0 <= token < self._n_vocab:
                logits[token] += bias
        return int(logits.argmax())

    def logprobs(self, sequence: Sequence) -> list[TokenLogprobs]:
        """Return those of the tokens sampled for this sequence since the last call, and forget them."""
        return self._logprobs.pop(sequence, [])

    def _sampler(self, sequence: Sequence) -> Any:
        if (sampler := self._samplers.get(sequence)) is None:
            sampler = self._samplers[sequence] = sampler_chain(sequence.sampling, self._vocab)
            for token in sequence.tokens if sequence.sampling.has_memory else ():
                C.llama_sampler_accept(sampler, token)
        return sampler

    def forget(self, sequence: Sequence) -> None:
        """Free what is kept for a sequence that has ended. Idempotent."""
        self._logprobs.pop(sequence, None)
        if sampler := self._samplers.pop(sequence, None):
            C.llama_sampler_free(sampler)

    def close(self) -> None:
        """Free all C objects. Idempotent."""
        for sequence in list(self._samplers):
            self.forget(sequence)
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
