"""POST /v1/completions: answers in the shape of the wire, whole or in chunks."""

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
    def __init__(self, data: CompletionRequest, made: RawCompletions) -> None:
        self._made = made
        self._answers = made.answers
        self._num_told = data.n or 1  # of each prompt
        self._num_made = len(made.answers) // len(made.prompts)
        self._has_logprobs = data.logprobs is not None and data.logprobs is not False
        self._has_usage = bool(data.stream_options and data.stream_options.include_usage)
        self._echoes = [_text(data, made, at) if data.echo else "" for at in range(len(made.prompts))]
        self._model = data.model or GROUNDED
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def whole(self) -> TextCompletion:
        told: list[list[Content]] = [[] for _ in range(len(self._answers))]
        async for index, event in self._answers.events():
            if isinstance(event, Content):
                told[index].append(event)
        choices = []
        for at in range(len(self._made.prompts)):
            own = range(at * self._num_made, (at + 1) * self._num_made)
            best = sorted(own, key=lambda index: -_likelihood(told[index])) if self._num_made > self._num_told else own
            choices += [self._choice(at, index, told[index]) for index in best[: self._num_told]]
        numbered = [
            CompletionChoice(choice.text, number, choice.logprobs, choice.finish_reason)
            for number, choice in enumerate(choices)
        ]
        return self._reply(numbered, self._usage())

    def _choice(self, at: int, index: int, told: Sequence[Content]) -> CompletionChoice:
        text = "".join(event.text for event in told)
        logprobs = self._logprobs([token for event in told for token in event.tokens], 0)
        return CompletionChoice(self._echoes[at] + text, index, logprobs, _reason(self._answers.ends[index]))

    async def events(self) -> AsyncIterator[TextCompletion]:
        usage = None if self._has_usage else UNSET
        offsets = [0] * len(self._answers)
        for index in range(len(self._answers)):
            if echo := self._echoes[index // self._num_made]:
                yield self._reply([CompletionChoice(echo, index)], usage)
        async for index, event in self._answers.events():
            if isinstance(event, Content):
                logprobs = self._logprobs(event.tokens, offsets[index]) if event.tokens else None
                offsets[index] += len(event.text)
                yield self._reply([CompletionChoice(event.text, index, logprobs)], usage)
            elif isinstance(event, TurnEnd):
                yield self._reply([CompletionChoice("", index, None, _reason(event))], usage)
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
            num_prompt,
            num_generated,
            num_prompt + num_generated,
            PromptTokensDetails(self._num_cached),
            CompletionTokensDetails(0),
        )

    @property
    def _num_cached(self) -> int:
        """Each prompt is computed once: what the first of its answers found in memory."""
        ends = self._answers.ends
        return sum(
            min(ends[index].num_cached for index in range(start, start + self._num_made))
            for start in range(0, len(self._answers), self._num_made)
        )


def _text(data: CompletionRequest, made: RawCompletions, at: int) -> str:
    """The prompt, as it was told or as its tokens read."""
    prompt = data.prompt
    if prompt is None or isinstance(prompt, str):
        return prompt or ""
    told = prompt[at] if len(made.prompts) > 1 or isinstance(prompt[0], str) else None
    return told if isinstance(told, str) else made.model.tokenizer.detokenize(made.prompts[at])


def _likelihood(told: Sequence[Content]) -> float:
    """The mean of its tokens' log probabilities."""
    scores = [token.chosen.logprob for event in told for token in event.tokens]
    return sum(scores) / max(len(scores), 1)


def _reason(end: TurnEnd) -> str:
    return "length" if end.reason is EndReason.LENGTH else "stop"
