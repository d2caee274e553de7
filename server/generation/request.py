"""A request to generate replies to a conversation, as every API hands it to `generate`."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from index.types import SearchScope
from models.llm.chat.messages import ChatMessage
from models.llm.chat.tool_config import ToolConfig
from models.llm.params import Priority
from server.generation.answer_format import AnswerFormat
from server.rag.options import RagOptions


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation and how to continue it.

    `sampling` has fields of `SamplingParams`; a field left out takes the model's default. `template_options` are
    variables of the model's chat template. `scope` overrides the search scope that the model id and `rag` name.
    """

    messages: Sequence[ChatMessage]
    model: str | None = None
    sampling: Mapping[str, Any] = {}
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    num_answers: int = 1
    tool_config: ToolConfig | None = None
    answer_format: AnswerFormat | None = None
    template_options: Mapping[str, Any] = {}
    rag: RagOptions = RagOptions()
    scope: SearchScope | None = None
    priority: Priority = Priority.INTERACTIVE

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The function tools that the chat template renders."""
        return self.tool_config.tools if self.tool_config else ()
