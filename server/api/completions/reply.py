"""The reply of POST /v1/completions, whole or as chunks."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence

from msgspec import UNSET, UnsetType

from models.llm.chat.events import Content, EndReason, TurnEnd
from models.llm.chat.logprobs import ScoredToken
from server.api.chat.wire import CompletionTokensDetails, CompletionUsage, PromptTokensDetails
from server.api.completions.wire import CompletionChoice, CompletionLogprobs, CompletionRequest, TextCompletion
from server.generation.completion import RawCompletions
from server.settings.settings import GROUNDED


class CompletionReply:
    """Raw completions in the shape of OpenAI's API. With `best_of` more answers are generated than returned."""

    def __init__(self, data: CompletionRequest, completions: RawCompletions) -> None:
        self._completions = completions
        self._answers = completions.answers
        self._num_returned = data.n or 1  # answers to each prompt
        self._num_per_prompt = len(completions.answers) // len(completions.prompts)
        self._has_logprobs = data.logprobs is not None and data.logprobs is not False
        self._has_usage = bool(data.stream_options and data.stream_options.include_usage)
        self._echoes = [
            _prompt_text(data, completions, at) if data.echo else "" for at in range(len(completions.prompts))
        ]
        self._model = data.model or GROUNDED
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def whole(self) -> TextCompletion:
        content: list[list[Content]] = [[] for _ in range(len(self._answers))]
        async for index, event in self._answers.events():
            if isinstance(event, Content):
                content[index].append(event)
        choices = []
        for at in range(len(self._completions.prompts)):
            indexes = range(at * self._num_per_prompt, (at + 1) * self._num_per_prompt)
            best: Sequence[int] = indexes
            if self._num_per_prompt > self._num_returned:
                best = sorted(indexes, key=lambda index: -_mean_logprob(content[index]))
            choices += [self._choice(at, index, content[index]) for index in best[: self._num_returned]]
        numbered = [
            CompletionChoice(choice.text, number, choice.logprobs, choice.finish_reason)
            for number, choice in enumerate(choices)
        ]
        return self._reply(numbered, self._usage())

    def _choice(self, at: int, index: int, content: Sequence[Content]) -> CompletionChoice:
        text = "".join(event.text for event in content)
        logprobs = self._logprobs([token for event in content for token in event.tokens], 0)
        return CompletionChoice(self._echoes[at] + text, index, logprobs, _finish_reason(self._answers.ends[index]))

    async def events(self) -> AsyncIterator[TextCompletion]:
        usage = None if self._has_usage else UNSET
        offsets = [0] * len(self._answers)
        for index in range(len(self._answers)):
            if echo := self._echoes[index // self._num_per_prompt]:
                yield self._reply([CompletionChoice(echo, index)], usage)
        async for index, event in self._answers.events():
            if isinstance(event, Content):
                logprobs = self._logprobs(event.tokens, offsets[index]) if event.tokens else None
                offsets[index] += len(event.text)
                yield self._reply([CompletionChoice(event.text, index, logprobs)], usage)
            elif isinstance(event, TurnEnd):
                yield self._reply([CompletionChoice("", index, None, _finish_reason(event))], usage)
        if self._has_usage:
            yield self._reply([], self._usage())

    async def aclose(self) -> None:
        await self._answers.aclose()

    def _reply(self, choices: list[CompletionChoice], usage: CompletionUsage | UnsetType | None) -> TextCompletion:
        return TextCompletion(self._id, self._created, self._model, choices, usage)

    def _logprobs(self, tokens: Sequence[ScoredToken], offset: int) -> CompletionLogprobs | None:
        if not self._has_logprobs:
            return None
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        return CompletionLogprobs(
            [token.chosen.text for token in tokens],
            [token.chosen.logprob for token in tokens],
            [{each.text: each.logprob for each in token.top} for token in tokens],
            offsets,
        )

    def _usage(self) -> CompletionUsage:
        num_prompt, num_generated = self._answers.num_prompt, self._answers.num_generated
        return CompletionUsage(
            prompt_tokens=num_prompt,
            completion_tokens=num_generated,
            total_tokens=num_prompt + num_generated,
            prompt_tokens_details=PromptTokensDetails(self._num_cached),
            completion_tokens_details=CompletionTokensDetails(0),
        )

    @property
    def _num_cached(self) -> int:
        """Prompt tokens in the KV cache. Each prompt is computed once, so the least of its answers counts."""
        ends = self._answers.ends
        return sum(
            min(ends[index].num_cached for index in range(start, start + self._num_per_prompt))
            for start in range(0, len(self._answers), self._num_per_prompt)
        )


def _prompt_text(data: CompletionRequest, completions: RawCompletions, at: int) -> str:
    """Return the text of a prompt, which may have come as tokens."""
    prompt = data.prompt
    if prompt is None or isinstance(prompt, str):
        return prompt or ""
    part = prompt[at] if len(completions.prompts) > 1 or isinstance(prompt[0], str) else None
    return part if isinstance(part, str) else completions.model.tokenizer.detokenize(completions.prompts[at])


def _mean_logprob(content: Sequence[Content]) -> float:
    scores = [token.chosen.logprob for event in content for token in event.tokens]
    return sum(scores) / max(len(scores), 1)


def _finish_reason(end: TurnEnd) -> str:
    return "length" if end.reason is EndReason.LENGTH else "stop"
