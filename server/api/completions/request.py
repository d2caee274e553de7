"""POST /v1/completions and /v1/fim/completions requests as raw completion requests."""

from collections.abc import Sequence
from typing import Any

import msgspec

from models.llm.params import SamplingParams
from server.api.completions.wire import MAX_PROMPTS, CompletionRequest, FimRequest, SamplingFields
from server.api.shared.forms import parse_json_schema
from server.errors import RequestError
from server.generation.answer_format import AnswerFormat
from server.generation.completion_request import RawCompletionRequest

_DEFAULT_MAX_TOKENS = 16  # as OpenAI has it
_DEFAULT_GAP_TOKENS = 256
_CONVERTED = ("logit_bias", "num_logprobs")  # sampling fields that no request field equals


def completion_request(data: CompletionRequest) -> RawCompletionRequest:
    """Return what the request wants. Raises `RequestError`, with the path of the field, for what is not supported."""
    _refuse_unsupported(data)
    return RawCompletionRequest(
        prompts=parse_prompts(data.prompt),
        suffix=data.suffix or None,
        model=data.model,
        sampling={
            **sampling_values(data),
            "logit_bias": parse_logit_bias(data.logit_bias),
            "num_logprobs": _num_logprobs(data),
        },
        max_tokens=_max_tokens(data),
        stop=stop_list(data.stop),
        num_answers=max(data.best_of or 1, data.n or 1),
        answer_format=answer_format(data),
        ignores_end=bool(data.ignore_eos),
    )


def fim_request(data: FimRequest) -> RawCompletionRequest:
    sampling = {"temperature": data.temperature, "top_p": data.top_p, "seed": data.random_seed}
    return RawCompletionRequest(
        prompts=[data.prompt],
        suffix=data.suffix or "",
        model=data.model,
        sampling={name: value for name, value in sampling.items() if value is not None},
        max_tokens=token_limit(data.max_tokens, _DEFAULT_GAP_TOKENS),
        stop=stop_list(data.stop),
    )


def _refuse_unsupported(data: CompletionRequest) -> None:
    if data.best_of and data.best_of < (data.n or 1):
        raise RequestError("best_of must be at least n.", "best_of", "invalid_value")
    if data.stream and data.best_of and data.best_of > (data.n or 1):
        raise RequestError("The best answer is known at the end only; leave out stream or best_of.", "best_of")
    if data.echo and data.logprobs not in (None, False):
        raise RequestError("Log probabilities of the prompt are not available; leave out echo or logprobs.", "echo")


def parse_prompts(prompt: str | Sequence[str | int | Sequence[int]] | None) -> list[str | Sequence[str | int]]:
    """Return one prompt or several, each a text or a list of tokens. Raises `RequestError`."""
    if prompt is None or isinstance(prompt, str):
        return [prompt or ""]
    if not prompt:
        raise RequestError("The prompt is empty.", "prompt", "invalid_value")
    if all(isinstance(each, int) for each in prompt):
        return [[each for each in prompt if isinstance(each, int)]]
    if len(prompt) > MAX_PROMPTS:
        raise RequestError(f"These are {len(prompt)} prompts; send at most {MAX_PROMPTS}.", "prompt", "invalid_value")
    several: list[str | Sequence[str | int]] = []
    for at, each in enumerate(prompt):
        if isinstance(each, int) or (not isinstance(each, str) and not each):
            raise RequestError("A prompt is a text or a list of tokens.", f"prompt[{at}]", "invalid_value")
        several.append(each)
    return several


def sampling_values(data: SamplingFields) -> dict[str, Any]:
    """Return the request's sampling fields. llama.cpp's clients send -1 for a random seed and for no limit."""
    names = [field.name for field in msgspec.structs.fields(SamplingParams) if field.name not in _CONVERTED]
    values = {name: value for name in names if (value := getattr(data, name)) is not None}
    if values.get("seed") == -1:
        del values["seed"]
    for name in ("top_k", "temperature"):
        if name in values:
            values[name] = max(values[name], 0)
    return values


def parse_logit_bias(logit_bias: dict[str, float] | None) -> dict[int, float]:
    if not all(token.isdecimal() and len(token) < 10 for token in logit_bias or {}):
        raise RequestError("The keys must be token ids, as whole numbers.", "logit_bias", "invalid_value")
    return {int(token): value for token, value in (logit_bias or {}).items()}


def stop_list(stop: str | Sequence[str] | None) -> Sequence[str]:
    return [stop] if isinstance(stop, str) else stop or ()


def answer_format(data: SamplingFields) -> AnswerFormat | None:
    """Return the form that the answer must have. Raises `RequestError`, also for a grammar."""
    if data.grammar:
        raise RequestError("Grammars are not supported; use json_schema.", "grammar")
    return None if data.json_schema is None else parse_json_schema(data.json_schema, "json_schema")


def token_limit(requested: int | None, default: int | None) -> int | None:
    """Return the limit; None for none, which llama.cpp's clients write as -1."""
    if requested is None:
        return default
    return requested if requested >= 0 else None


def _max_tokens(data: CompletionRequest) -> int | None:
    return token_limit(data.max_tokens if data.max_tokens is not None else data.n_predict, _DEFAULT_MAX_TOKENS)


def _num_logprobs(data: CompletionRequest) -> int | None:
    """Return the number of candidates per token; 0 where log probabilities only serve to find the best answer."""
    if data.logprobs is None or data.logprobs is False:
        return 0 if (data.best_of or 1) > (data.n or 1) else None
    return int(data.logprobs)
