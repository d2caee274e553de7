"""A request to continue bare prompts, or to fill the gap between two texts, without a chat template and sources."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from models.llm.chat.fim import Extra
from models.llm.params import CompletionBounds, Priority
from server.generation.answer_format import AnswerFormat


class RawCompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts to continue, each `num_answers` times.

    Without `suffix` a prompt is read as it is: names of control tokens are those tokens. With it, the gap between the
    prompt and the suffix is filled, with `extra` as text from other files of the project. `sampling` has fields of
    `SamplingParams`. `max_tokens` 0 only reads the prompt into memory. `priority` None: filling a gap is TYPING,
    reading ahead is BATCH, everything else is INTERACTIVE.
    """

    prompts: Sequence[str | Sequence[str | int]]
    suffix: str | None = None
    extra: Sequence[Extra] = ()
    model: str | None = None
    sampling: Mapping[str, Any] = {}
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    num_answers: int = 1
    answer_format: AnswerFormat | None = None
    ignores_end: bool = False
    bounds: CompletionBounds = CompletionBounds()
    priority: Priority | None = None
