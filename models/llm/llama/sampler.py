"""llama.cpp's sampler chain for one sequence, and the log-probabilities of sampled tokens."""

import ctypes
import os
from typing import Any

import llama_cpp.llama_cpp as C
import numpy as np
from numpy.typing import NDArray

from models.llm.engine.messages import TokenLogprobs
from models.llm.params import SamplingParams

_MIN_TEMPERATURE = 1e-6  # below it, dividing by the temperature overflows; only the likeliest token is left long before
_PENALTY_WINDOW = 64  # tokens, llama.cpp's own default
_DRY_WINDOW = 4096  # tokens in which DRY looks for repeats
_DRY_BREAKERS = (b"\n", b":", b'"', b"*")  # the defaults of DRY's author: a repeat does not reach over these


def sampler_chain(sampling: SamplingParams, vocab: Any) -> Any:
    """Build llama.cpp's stages in the order that `SamplingParams` states, without idle ones; the caller frees it."""
    chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
    for stage in [*_logit_stages(sampling, vocab), *_choice_stages(sampling)]:
        C.llama_sampler_chain_add(chain, stage)
    return chain


def _logit_stages(sampling: SamplingParams, vocab: Any) -> list[Any]:
    """Return the stages that change logits: penalties, DRY, logit bias."""
    s, n_vocab, stages = sampling, C.llama_vocab_n_tokens(vocab), []
    if s.has_penalties:
        penalties = s.repeat_penalty, s.frequency_penalty, s.presence_penalty
        stages.append(C.llama_sampler_init_penalties(n_vocab, _PENALTY_WINDOW, *penalties))
    if s.dry_multiplier:
        breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
        dry = s.dry_multiplier, s.dry_base, s.dry_allowed_length, _DRY_WINDOW
        stages.append(C.llama_sampler_init_dry(vocab, *dry, breakers, len(_DRY_BREAKERS)))
    if biases := {token: bias for token, bias in s.logit_bias.items() if 0 <= token < n_vocab}:
        array = (C.llama_logit_bias * len(biases))(*(C.llama_logit_bias(t, b) for t, b in biases.items()))
        stages.append(C.llama_sampler_init_logit_bias(n_vocab, len(biases), array))
    return stages


def _choice_stages(sampling: SamplingParams) -> list[Any]:
    """Return the stages that choose: the likeliest token, or filters, temperature and a draw."""
    s = sampling
    if s.temperature < _MIN_TEMPERATURE:
        return [C.llama_sampler_init_greedy()]
    stages = []
    if s.top_k:
        stages.append(C.llama_sampler_init_top_k(s.top_k))
    if s.typical_p < 1:
        stages.append(C.llama_sampler_init_typical(s.typical_p, 1))
    if s.top_p < 1:
        stages.append(C.llama_sampler_init_top_p(s.top_p, 1))
    if s.min_p > 0:
        stages.append(C.llama_sampler_init_min_p(s.min_p, 1))
    stages.append(C.llama_sampler_init_temp(s.temperature))
    seed = s.seed if s.seed is not None else int.from_bytes(os.urandom(4))
    stages.append(C.llama_sampler_init_dist(seed & 0xFFFFFFFF))
    return stages


def token_logprobs(logits: NDArray[np.float32], token: int, num_top: int) -> TokenLogprobs:
    """Return the log-softmax of `logits`, shape (n_vocab,), at `token` and at the `num_top` likeliest tokens."""
    shifted = logits.astype(np.float64) - logits.max()
    logprobs = shifted - np.log(np.exp(shifted).sum())
    top = np.argsort(-logprobs, kind="stable")[:num_top]
    return TokenLogprobs(token, float(logprobs[token]), [(int(i), float(logprobs[i])) for i in top])
