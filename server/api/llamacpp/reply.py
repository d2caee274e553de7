"""The reply of llama.cpp's /completion and /infill, whole or as chunks."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from models.llm.chat.events import Content, EndReason, TurnEnd
from models.llm.chat.logprobs import Candidate, ScoredToken
from server.api.llamacpp.wire import (
    LlamaCppChunk,
    LlamaCppCompletion,
    LlamaCppRequest,
    LlamaCppTimings,
    TokenProbability,
)
from server.generation.completion import RawCompletions
from server.settings.settings import GROUNDED


class LlamaCppReply:
    """Raw completions in llama.cpp's shape. `received_at` is when the request came, by `time.monotonic`."""

    def __init__(self, data: LlamaCppRequest, completions: RawCompletions, received_at: float) -> None:
        self._completions = completions
        self._answers = completions.answers
        self._model = data.model or GROUNDED
        self._has_probabilities = bool(data.n_probs)
        self._fields = data.response_fields
        self._received_at = received_at
        self._first_at: float | None = None
        self._num_per_prompt = len(completions.answers) // len(completions.prompts)

    async def whole(self) -> Any:
        """Return one object, or a list of several, each with the requested fields only."""
        content: list[list[Content]] = [[] for _ in range(len(self._answers))]
        async for index, event in self._answers.events():
            self._first_at = self._first_at or time.monotonic()
            if isinstance(event, Content):
                content[index].append(event)
        replies = [self._select_fields(self._completion(index, events)) for index, events in enumerate(content)]
        return replies[0] if len(replies) == 1 else replies

    async def events(self) -> AsyncIterator[LlamaCppChunk | LlamaCppCompletion]:
        content: list[list[Content]] = [[] for _ in range(len(self._answers))]
        async for index, event in self._answers.events():
            self._first_at = self._first_at or time.monotonic()
            if isinstance(event, Content):
                content[index].append(event)
                yield LlamaCppChunk(event.text, index, completion_probabilities=self._probabilities([event]))
            elif isinstance(event, TurnEnd):
                self._answers.ends[index] = event
                yield msgspec.structs.replace(self._completion(index, content[index]), content="")

    async def aclose(self) -> None:
        await self._answers.aclose()

    def _completion(self, index: int, content: Sequence[Content]) -> LlamaCppCompletion:
        end = self._answers.ends[index]
        text = "".join(event.text for event in content)
        num_prompt = len(self._completions.prompts[index // self._num_per_prompt])
        return LlamaCppCompletion(
            content=text,
            index=index,
            model=self._model,
            stop_type=_stop_type(end),
            stopping_word=end.stopped_by or "",
            tokens_predicted=end.num_generated,
            tokens_evaluated=num_prompt,
            tokens_cached=num_prompt + end.num_generated,
            timings=self._timings(num_prompt, end),
            has_new_line="\n" in text,
            completion_probabilities=self._probabilities(content),
        )

    def _timings(self, num_prompt: int, end: TurnEnd) -> LlamaCppTimings:
        now = time.monotonic()
        prompt_s = max((self._first_at or now) - self._received_at, 1e-6)
        predict_s = max(now - (self._first_at or now), 1e-6)
        num_read = num_prompt - end.num_cached
        return LlamaCppTimings(
            cache_n=end.num_cached,
            prompt_n=num_read,
            prompt_ms=1000 * prompt_s,
            prompt_per_second=num_read / prompt_s,
            predicted_n=end.num_generated,
            predicted_ms=1000 * predict_s,
            predicted_per_second=end.num_generated / predict_s,
        )

    def _probabilities(self, content: Sequence[Content]) -> list[TokenProbability] | UnsetType:
        if not self._has_probabilities:
            return UNSET
        return [_probability(token) for event in content for token in event.tokens]

    def _select_fields(self, completion: LlamaCppCompletion) -> Any:
        if self._fields is None:
            return completion
        fields = msgspec.to_builtins(completion)
        values = ((path, _value_at(fields, path)) for path in self._fields)
        return {path: value for path, value in values if value is not UNSET}


def _value_at(value: Any, path: str) -> Any:
    for name in path.split("/"):
        if not isinstance(value, dict) or name not in value:
            return UNSET
        value = value[name]
    return value


def _stop_type(end: TurnEnd) -> Any:
    if end.stopped_by is not None:
        return "word"
    return "limit" if end.reason is EndReason.LENGTH else "eos"


def _probability(token: ScoredToken) -> TokenProbability:
    return _candidate_probability(token.chosen, [_candidate_probability(each) for each in token.top])


def _candidate_probability(candidate: Candidate, top: Sequence[TokenProbability] = ()) -> TokenProbability:
    return TokenProbability(
        token=candidate.text, logprob=candidate.logprob, bytes=list(candidate.piece), top_logprobs=list(top)
    )
