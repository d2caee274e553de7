"""The boundary to llama.cpp: the only module that imports `llama_cpp`, and only its low-level C binding.

Everything here owns a C object and frees it once, on `close`. `Vocabulary` may be used from any thread; a
`LlamaRunner` belongs to one.
"""

import contextlib
import ctypes
import functools
import os
from collections.abc import Sequence as Sequences
from pathlib import Path
from typing import Any, Self

import llama_cpp
import llama_cpp.llama_cpp as C
import numpy as np
from numpy.typing import NDArray

from models.errors import ModelFileError
from models.llm.chat.fim import FimTokens
from models.llm.engine.messages import Adapter, TokenLogprobs
from models.llm.engine.scheduler import Chunk, Limits, Step
from models.llm.engine.sequence import Sequence
from models.llm.engine.step_cost import GPU_COST
from models.llm.gguf.estimate import FEW, Estimate, context_length, estimate
from models.llm.gguf.files import parts_of
from models.llm.gguf.header import numbers_by_layer
from models.llm.gguf.identity import identity_of
from models.llm.gguf.info import GGUFInfo
from models.llm.kv.prefix_cache import Copy, Operation, Remove
from models.llm.kv.prefixes import State
from models.llm.params import EngineParams, SamplingParams
from models.threads import num_physical_cores

_COLDEST = 1e-6  # temperature below which dividing by it overflows; only the likeliest token is left long before
_PENALTY_WINDOW = 64  # tokens, llama.cpp's own default
_DRY_WINDOW = 4096  # tokens in which DRY looks for repeats
_DRY_BREAKERS = (b"\n", b":", b'"', b"*")  # its author's: a repeat does not reach over these
_LOG_ERROR = 4


class _Log:
    """llama.cpp's log, reduced to the last few error lines: what a person needs when a file will not load."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._callback = C.llama_log_callback(self._write)

    def _write(self, level: int, text: bytes, _: int | None) -> None:
        if level == _LOG_ERROR and (line := text.decode(errors="replace").strip()):
            self.errors = [*self.errors[-4:], line.split(": ", 1)[-1]]

    def install(self) -> None:
        C.llama_log_set(self._callback, ctypes.c_void_p(0))


_log = _Log()


def _check_magic(path: Path) -> None:
    if not path.is_file():
        raise ModelFileError(path, "there is no such file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelFileError(path, "not a GGUF file (it does not begin with 'GGUF')")


def _load(path: Path, **fields: object) -> Any:
    path = parts_of(path)[0]
    _check_magic(path)
    _log.install()
    _log.errors.clear()
    C.llama_backend_init()
    params = C.llama_model_default_params()
    for name, value in fields.items():
        setattr(params, name, value)
    model = C.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        reason = next(iter(_log.errors), "it does not say why").rsplit("error loading model: ", 1)[-1]
        raise ModelFileError(path, f"llama.cpp cannot load it: {reason}; the file may be cut short or damaged")
    return model


class Vocabulary:
    """The tokens of a model, without its weights."""

    def __init__(self, path: Path) -> None:
        """Raises `ModelFileError` when the file is not a GGUF with a vocabulary."""
        self._model = _load(path, vocab_only=True)
        self._vocab = C.llama_model_get_vocab(self._model)
        self.path = path
        self.size: int = C.llama_vocab_n_tokens(self._vocab)
        self.end_tokens = frozenset(i for i in range(self.size) if C.llama_vocab_is_eog(self._vocab, i))
        self.adds_bos: bool = C.llama_vocab_get_add_bos(self._vocab)
        self.bos: int = C.llama_vocab_bos(self._vocab)
        self.eos: int = C.llama_vocab_eos(self._vocab)
        self.chat_template = self.metadata("tokenizer.chat_template")
        self.name = self.metadata("general.name") or path.stem

    def metadata(self, key: str) -> str | None:
        size = C.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        C.llama_model_meta_val_str(self._model, key.encode(), buffer, size + 1)
        return buffer.value.decode(errors="replace")

    def estimate(self, params: EngineParams) -> Estimate:
        """How much memory the model will take; see `models.llm.gguf.estimate`."""
        parts = parts_of(self.path)
        size = sum(part.stat().st_size for part in parts)
        return estimate(self.metadata, numbers_by_layer(parts[0]), size, self.size, params)

    @functools.cached_property
    def facts(self) -> GGUFInfo:
        family = self.metadata("general.architecture")
        return GGUFInfo(
            n_ctx_train=self._number(f"{family}.context_length"),
            n_params=C.llama_model_n_params(self._model),
            size=C.llama_model_size(self._model),
            n_embd=self._number(f"{family}.embedding_length"),
            n_vocab=self.size,
            vocab_type=C.llama_vocab_type(self._vocab),
            can_insert=self.fim is not None,
        )

    @functools.cached_property
    def fim(self) -> FimTokens | None:
        """None for a model that was not trained to fill gaps."""
        prefix, suffix, middle, repository, file = (
            None if (token := find(self._vocab)) < 0 else int(token)
            for find in (
                C.llama_vocab_fim_pre,
                C.llama_vocab_fim_suf,
                C.llama_vocab_fim_mid,
                C.llama_vocab_fim_rep,
                C.llama_vocab_fim_sep,
            )
        )
        if prefix is None or suffix is None or middle is None:
            return None
        return FimTokens(prefix, suffix, middle, repository, file)

    def _number(self, key: str) -> int:
        value = self.metadata(key) or ""
        return int(value) if value.isdigit() else 0

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool = False) -> list[int]:
        """Token ids; names of control tokens become those tokens only with `parse_special`."""
        data = text.encode(errors="replace")
        room = len(data) + 8
        while True:
            buffer = (C.llama_token * room)()
            count = C.llama_tokenize(self._vocab, data, len(data), buffer, room, add_bos, parse_special)
            if count >= 0:
                return buffer[:count]
            room = -count

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes a token stands for, perhaps part of a character; control tokens are empty unless `special`."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = C.llama_token_to_piece(self._vocab, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def close(self) -> None:
        if self._model:
            C.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LlamaRunner:
    """A model's weights and one context. Computes the scheduler's steps and draws the next tokens."""

    def __init__(self, path: Path, params: EngineParams, adapters: Sequences[Adapter] = ()) -> None:
        """Raises `ModelFileError` when a file cannot be loaded or the context cannot be made."""
        with contextlib.ExitStack() as stack:
            self._model = _load(path, n_gpu_layers=params.n_gpu_layers)
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
            files = [*parts_of(path), *(Path(adapter.path) for adapter in adapters)]
            scales = [str(adapter.scale) for adapter in adapters]
            self.identity = identity_of(
                files, llama_cpp.__version__, str(self.limits.supports_partial_removal), *scales
            )
            self._samplers: dict[Sequence, Any] = {}
            self._logprobs: dict[Sequence, list[TokenLogprobs]] = {}
            self._fields = self._batch_views(params.n_batch)
            self._owned = stack.pop_all()

    def _limits(self, params: EngineParams) -> Limits:
        """Recurrent and hybrid models keep a whole state for every llama.cpp sequence, so they are given few."""
        n_ctx = context_length(C.llama_model_n_ctx_train(self._model), params)
        if C.llama_model_is_recurrent(self._model) or C.llama_model_is_hybrid(self._model):
            few = min(params.n_slots, FEW), min(params.n_cached, FEW)
            return Limits(*few, params.n_batch, 4 * n_ctx, n_ctx, supports_partial_removal=False)
        limits = Limits(params.n_slots, params.n_cached, params.n_batch, 2 * n_ctx, n_ctx)
        if C.llama_supports_gpu_offload() and params.n_gpu_layers:  # a GPU checks guesses almost for nothing
            return limits._replace(step_cost=GPU_COST)
        return limits

    def _open_context(self, path: Path, params: EngineParams) -> Any:
        fields = C.llama_context_default_params()
        fields.n_ctx = self.limits.n_cells
        fields.n_batch = max(params.n_batch, self.limits.num_sequences)  # with less, llama.cpp ends the process
        fields.n_ubatch = params.n_batch
        fields.n_seq_max = self.limits.num_sequences
        fields.kv_unified = True
        fields.n_threads = fields.n_threads_batch = params.n_threads or num_physical_cores()
        context = C.llama_init_from_model(self._model, fields)
        if not context:
            reason = next(iter(_log.errors), "not enough memory?")
            raise ModelFileError(path, f"no context of {self.limits.n_cells} tokens could be made for it: {reason}")
        return context

    def _apply_adapters(self, adapters: Sequences[Adapter]) -> None:
        """LoRA adapters, which belong to the model and are freed with it."""
        loaded = []
        for adapter in adapters:
            path = Path(adapter.path)
            _check_magic(path)
            _log.errors.clear()
            if not (pointer := C.llama_adapter_lora_init(self._model, os.fsencode(path))):
                reason = next(iter(_log.errors), "it is no LoRA adapter of this model")
                raise ModelFileError(path, f"llama.cpp cannot apply it: {reason}")
            loaded.append((pointer, adapter.scale))
        if loaded:
            pointers = (C.llama_adapter_lora_p_ctypes * len(loaded))(*(pointer for pointer, _ in loaded))
            scales = (ctypes.c_float * len(loaded))(*(scale for _, scale in loaded))
            C.llama_set_adapters_lora(self._context, pointers, len(loaded), scales)

    def _batch_views(self, n_batch: int) -> dict[str, np.ndarray]:
        """The C batch's arrays as numpy views; `seq_id` is an array of pointers, each to one id."""
        view = np.ctypeslib.as_array
        sequence_ids = [view(self._batch.seq_id[i], shape=(1,)) for i in range(n_batch)]
        self._sequence_ids = sequence_ids
        return {
            name: view(getattr(self._batch, name), shape=(n_batch,)) for name in ("token", "pos", "n_seq_id", "logits")
        }

    def compute(self, step: Step) -> list[list[int]]:
        """One `llama_decode`, then the draws: for each chunk the guesses that hold and one token more, if it wants one.

        Raises `RuntimeError` when llama.cpp refuses the batch; what its chunks computed is then not to be used.
        """
        self.apply(step.operations)
        ends = self._fill(step.chunks)
        status = C.llama_decode(self._context, self._batch) if ends else 0
        if status:
            raise RuntimeError(f"llama_decode answered {status}")
        return [
            self._draw(chunk, end - 1 - chunk.num_draft) if chunk.wants_token else []
            for chunk, end in zip(step.chunks, ends, strict=True)
        ]

    def apply(self, operations: list[Operation]) -> None:
        for operation in operations:
            match operation:
                case Copy(source, target, start, end):
                    C.llama_memory_seq_cp(self._memory, source, target, start, end)
                case Remove(slot, start, end):
                    C.llama_memory_seq_rm(self._memory, slot, start, end)

    def save(self, slot: int) -> State:
        """What the slot has read, for `load` of the same model in this or a later run."""
        size = C.llama_state_seq_get_size(self._context, slot)
        state = np.empty(size, np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        written = C.llama_state_seq_get_data(self._context, pointer, size, slot)
        return state[:written].data

    def load(self, slot: int, state: State) -> bool:
        """Fills a slot with a saved state; False when it does not fit, and then the slot is empty or to be emptied."""
        pointer = np.frombuffer(state, np.uint8).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        return int(C.llama_state_seq_set_data(self._context, pointer, len(state), slot)) == len(state)

    def _fill(self, chunks: list[Chunk]) -> list[int]:
        """Writes the batch; the row after each chunk's last."""
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

    def _draw(self, chunk: Chunk, row: int) -> list[int]:
        """Token by token from `row` on, as long as the guess is what the sampler draws."""
        drawn: list[int] = []
        for guess in [*chunk.tokens[len(chunk.tokens) - chunk.num_draft :], None]:
            drawn.append(self._sample(chunk.sequence, row + len(drawn), drawn))
            if drawn[-1] != guess:
                break
        return drawn

    def _sample(self, sequence: Sequence, row: int, accepted: list[int]) -> int:
        allowed, num_logprobs = sequence.allowed(accepted), sequence.sampling.num_logprobs
        logits = np.ctypeslib.as_array(C.llama_get_logits_ith(self._context, row), shape=(self._n_vocab,))
        own = logits if allowed is None and num_logprobs is None else logits.copy()
        if allowed is not None:
            ids = np.asarray(allowed, np.intp)
            logits[:] = -np.inf
            logits[ids] = own[ids]
        token = self._choose(sequence, row, logits)
        if allowed is not None and logits[token] == -np.inf:  # what was asked of the sampler left nothing to choose
            token = int(ids[own[ids].argmax()])
        if num_logprobs is not None:
            self._logprobs.setdefault(sequence, []).append(_logprobs(own, token, num_logprobs))
        return token

    def _choose(self, sequence: Sequence, row: int, logits: NDArray[np.float32]) -> int:
        """llama.cpp's samplers first copy the whole vocabulary; the likeliest token is found without."""
        sampling = sequence.sampling
        if sampling.temperature or sampling.has_memory:
            return int(C.llama_sampler_sample(self._sampler(sequence), self._context, row))
        for token, bias in sampling.logit_bias.items():
            if 0 <= token < self._n_vocab:
                logits[token] += bias
        return int(logits.argmax())

    def logprobs(self, sequence: Sequence) -> list[TokenLogprobs]:
        """Of the tokens drawn for this sequence since the last call."""
        return self._logprobs.pop(sequence, [])

    def _sampler(self, sequence: Sequence) -> Any:
        if (sampler := self._samplers.get(sequence)) is None:
            sampler = self._samplers[sequence] = _sampler_chain(sequence.sampling, self._vocab)
            for token in sequence.tokens if sequence.sampling.has_memory else ():
                C.llama_sampler_accept(sampler, token)
        return sampler

    def forget(self, sequence: Sequence) -> None:
        """Frees what is kept for a sequence that has ended. Idempotent."""
        self._logprobs.pop(sequence, None)
        if sampler := self._samplers.pop(sequence, None):
            C.llama_sampler_free(sampler)

    def close(self) -> None:
        for sequence in list(self._samplers):
            self.forget(sequence)
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _logprobs(logits: NDArray[np.float32], token: int, num_top: int) -> TokenLogprobs:
    shifted = logits.astype(np.float64) - logits.max()
    logprobs = shifted - np.log(np.exp(shifted).sum())
    top = np.argsort(-logprobs, kind="stable")[:num_top]
    return TokenLogprobs(token, float(logprobs[token]), [(int(i), float(logprobs[i])) for i in top])


def _sampler_chain(sampling: SamplingParams, vocab: Any) -> Any:
    """llama.cpp's stages for these parameters, in the order `SamplingParams` states; idle stages are left out."""
    chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())

    def add(stage: Any) -> None:
        C.llama_sampler_chain_add(chain, stage)

    s, n_vocab = sampling, C.llama_vocab_n_tokens(vocab)
    if s.has_penalties:
        add(
            C.llama_sampler_init_penalties(
                n_vocab, _PENALTY_WINDOW, s.repeat_penalty, s.frequency_penalty, s.presence_penalty
            )
        )
    if s.dry_multiplier:
        breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
        shape = s.dry_multiplier, s.dry_base, s.dry_allowed_length, _DRY_WINDOW
        add(C.llama_sampler_init_dry(vocab, *shape, breakers, len(_DRY_BREAKERS)))
    if biases := {token: bias for token, bias in s.logit_bias.items() if 0 <= token < n_vocab}:
        array = (C.llama_logit_bias * len(biases))(*(C.llama_logit_bias(t, b) for t, b in biases.items()))
        add(C.llama_sampler_init_logit_bias(n_vocab, len(biases), array))
    if s.temperature < _COLDEST:
        add(C.llama_sampler_init_greedy())
        return chain
    if s.top_k:
        add(C.llama_sampler_init_top_k(s.top_k))
    if s.typical_p < 1:
        add(C.llama_sampler_init_typical(s.typical_p, 1))
    if s.top_p < 1:
        add(C.llama_sampler_init_top_p(s.top_p, 1))
    if s.min_p > 0:
        add(C.llama_sampler_init_min_p(s.min_p, 1))
    add(C.llama_sampler_init_temp(s.temperature))
    seed = s.seed if s.seed is not None else int.from_bytes(os.urandom(4))
    add(C.llama_sampler_init_dist(seed & 0xFFFFFFFF))
    return chain
