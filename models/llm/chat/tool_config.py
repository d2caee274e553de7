"""The tools of a request and which of them may be called."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

ToolDefinition = Mapping[str, Any]  # an OpenAI function tool


class ToolConfig(msgspec.Struct, frozen=True):
    """`tools` are all rendered into the prompt; only those of `callable_names` may be called (None: all of them)."""

    tools: tuple[ToolDefinition, ...]
    choice: Literal["auto", "required"] = "auto"
    callable_names: frozenset[str] | None = None
    is_parallel: bool = True

    @property
    def callable_tools(self) -> list[ToolDefinition]:
        names = self.callable_names
        return [tool for tool in self.tools if names is None or tool["function"]["name"] in names]
