"""Requests of llama.cpp's /completion and /infill as raw completion requests."""

import msgspec

from models.llm.chat.fim import Extra
from models.llm.params import CompletionBounds
from server.api.completions.request import (
    answer_format,
    parse_logit_bias,
    parse_prompts,
    sampling_values,
    stop_list,
    token_limit,
)
from server.api.llamacpp.wire import LlamaCppInfillRequest, LlamaCppRequest
from server.errors import RequestError
from server.generation.completion_request import RawCompletionRequest

_DEFAULT_GAP_TOKENS = 256


def completion_request(data: LlamaCppRequest) -> RawCompletionRequest:
    """Return the completion that POST /completion wants. Raises `RequestError`."""
    completion = _completion(data)
    prompts = [data.prompt] if _is_mixed(data.prompt) else parse_prompts(data.prompt)
    return msgspec.structs.replace(completion, prompts=prompts)


def infill_request(data: LlamaCppInfillRequest) -> RawCompletionRequest:
    """Return the completion that POST /infill wants. Raises `RequestError`."""
    line_start = data.prompt or ""
    if not isinstance(line_start, str):
        raise RequestError("The prompt of /infill is a text.", "prompt", "invalid_value")
    completion = _completion(data)
    return msgspec.structs.replace(
        completion,
        prompts=[(data.input_prefix or "") + line_start],
        suffix=data.input_suffix or "",
        extra=[Extra(each.text, each.filename or "tmp") for each in data.input_extra or ()],
        max_tokens=token_limit(_max_tokens(data), _DEFAULT_GAP_TOKENS),
    )


def _is_mixed(prompt: object) -> bool:
    """Return whether the prompt is a list of texts and tokens, which are one prompt."""
    return isinstance(prompt, list) and {type(each) for each in prompt} == {str, int}


def _completion(data: LlamaCppRequest) -> RawCompletionRequest:
    if data.return_tokens:
        raise RequestError("Tokens are not returned; use POST /tokenize.", "return_tokens")
    return RawCompletionRequest(
        prompts=[],
        suffix=None,
        model=data.model,
        sampling={
            **sampling_values(data),
            "logit_bias": parse_logit_bias(data.logit_bias),
            "num_logprobs": data.n_probs or None,
        },
        max_tokens=token_limit(_max_tokens(data), None),
        stop=stop_list(data.stop),
        num_answers=data.n_cmpl or data.n or 1,
        answer_format=answer_format(data),
        ignores_end=bool(data.ignore_eos),
        bounds=CompletionBounds(
            prompt_s=_seconds(data.t_max_prompt_ms),
            predict_s=_seconds(data.t_max_predict_ms),
            indent=data.n_indent or 0,
        )
        if _max_tokens(data) != 0
        else CompletionBounds(),  # editors that read the context ahead send 1 ms, but all of it shall be read
    )


def _max_tokens(data: LlamaCppRequest) -> int | None:
    return data.n_predict if data.n_predict is not None else data.max_tokens


def _seconds(milliseconds: float | None) -> float | None:
    return milliseconds / 1000 if milliseconds is not None and milliseconds > 0 else None
