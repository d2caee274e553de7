"""POST /v1/completions and /v1/fim/completions: what they ask for."""

from collections.abc import Sequence
from typing import Any

import msgspec

from models.llm.constraints.forms import JsonSchema
from models.llm.params import SamplingParams
from server.api.completions.wire import MAX_PROMPTS, CompletionRequest, FimRequest, SamplingFields
from server.api.shared.forms import parse_json_schema
from server.errors import RequestError
from server.generation.completion_request import RawCompletionRequest

_DEFAULT_TOKENS = 16  # OpenAI's
_GAP_TOKENS = 256  # where an editor does not say
_NOT_PLAIN = ("logit_bias", "num_logprobs")  # sampling fields that are no request field of the same name


def completion_request(data: CompletionRequest) -> RawCompletionRequest:
    """Raises `RequestError` for what cannot be done, with the path of the field that asks for it."""
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
        max_tokens=_limit(data),
        stop=stop_list(data.stop),
        num_answers=max(data.best_of or 1, data.n or 1),
        form=output_form(data),
        ignores_end=bool(data.ignore_eos),
    )


def fim_request(data: FimRequest) -> RawCompletionRequest:
    sampling = {"temperature": data.temperature, "top_p": data.top_p, "seed": data.random_seed}
    return RawCompletionRequest(
        prompts=[data.prompt],
        suffix=data.suffix or "",
        model=data.model,
        sampling={name: value for name, value in sampling.items() if value is not None},
        max_tokens=token_limit(data.max_tokens, _GAP_TOKENS),
        stop=stop_list(data.stop),
    )


def _refuse_unsupported(data: CompletionRequest) -> None:
    if data.best_of and data.best_of < (data.n or 1):
        raise RequestError("It must not be less than n.", "best_of", "invalid_value")
    if data.stream and data.best_of and data.best_of > (data.n or 1):
        raise RequestError("Which is best is known at the end only; leave out stream, or best_of.", "best_of")
    if data.echo and data.logprobs not in (None, False):
        raise RequestError("Log probabilities of the prompt are not told; leave out echo, or logprobs.", "echo")


def parse_prompts(prompt: str | Sequence[str | int | Sequence[int]] | None) -> list[str | Sequence[str | int]]:
    """One prompt, or several: texts, tokens, or lists of tokens."""
    if prompt is None or isinstance(prompt, str):
        return [prompt or ""]
    if not prompt:
        raise RequestError("It is empty.", "prompt", "invalid_value")
    if all(isinstance(each, int) for each in prompt):
        return [[each for each in prompt if isinstance(each, int)]]
    if len(prompt) > MAX_PROMPTS:
        raise RequestError(f"There are {len(prompt)} prompts; {MAX_PROMPTS} at most.", "prompt", "invalid_value")
    several: list[str | Sequence[str | int]] = []
    for at, each in enumerate(prompt):
        if isinstance(each, int) or (not isinstance(each, str) and not each):
            raise RequestError("A prompt is a text, or a list of tokens.", f"prompt[{at}]", "invalid_value")
        several.append(each)
    return several


def sampling_values(data: SamplingFields) -> dict[str, Any]:
    """-1 is llama.cpp's word for a seed of chance, and for no limit to the candidates."""
    names = [field.name for field in msgspec.structs.fields(SamplingParams) if field.name not in _NOT_PLAIN]
    chosen = {name: value for name in names if (value := getattr(data, name)) is not None}
    if chosen.get("seed") == -1:
        del chosen["seed"]
    for name in ("top_k", "temperature"):
        if name in chosen:
            chosen[name] = max(chosen[name], 0)
    return chosen


def parse_logit_bias(asked: dict[str, float] | None) -> dict[int, float]:
    if not all(token.isdecimal() and len(token) < 10 for token in asked or {}):
        raise RequestError("Its keys must be token ids, whole numbers.", "logit_bias", "invalid_value")
    return {int(token): value for token, value in (asked or {}).items()}


def stop_list(stop: str | Sequence[str] | None) -> Sequence[str]:
    return [stop] if isinstance(stop, str) else stop or ()


def output_form(data: SamplingFields) -> JsonSchema | None:
    """Raises `RequestError` also for a grammar, which is not taken."""
    if data.grammar:
        raise RequestError("A grammar is not taken; use json_schema.", "grammar")
    return None if data.json_schema is None else parse_json_schema(data.json_schema, "json_schema")


def token_limit(asked: int | None, default: int | None) -> int | None:
    """-1 is llama.cpp's and others' word for none."""
    if asked is None:
        return default
    return asked if asked >= 0 else None


def _limit(data: CompletionRequest) -> int | None:
    return token_limit(data.max_tokens if data.max_tokens is not None else data.n_predict, _DEFAULT_TOKENS)


def _num_logprobs(data: CompletionRequest) -> int | None:
    """Those of the best are needed to tell which it is."""
    if data.logprobs is None or data.logprobs is False:
        return 0 if (data.best_of or 1) > (data.n or 1) else None
    return int(data.logprobs)
