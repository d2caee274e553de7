"""The tools of a request as a `ToolConfig`. `where` is the path of the field that an error names."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from models.llm.chat.tool_config import ToolConfig
from server.errors import RequestError


def describe_tools(functions: Sequence[Mapping[str, Any]], where: str) -> tuple[dict[str, Any], ...]:
    """Return the functions as chat templates expect them. Raises `RequestError` for a name that comes twice.

    `{}` in `where` stands for the position in the list.
    """
    names: set[str] = set()
    for i, function in enumerate(functions):
        name = function["name"]
        if name in names:
            raise RequestError(f"There are two tools named {name!r}.", where.format(i), "invalid_value")
        names.add(name)
    return tuple({"type": "function", "function": dict(function)} for function in functions)


def tool_config_for_mode(
    tools: tuple[dict[str, Any], ...], mode: str, is_parallel: bool, where: str
) -> ToolConfig | None:
    """Return the tools for a choice by mode; None if none may be called. Raises `RequestError`."""
    match mode:
        case "none":
            return None
        case "auto":
            return ToolConfig(tools, "auto", None, is_parallel) if tools else None
        case "required" | "any":
            if not tools:
                raise RequestError("There are no tools to choose from.", where, "invalid_value")
            return ToolConfig(tools, "required", None, is_parallel)
    raise RequestError(f"Unknown choice {mode!r}; use none, auto or required.", where, "invalid_value")


def tool_config_for_names(
    tools: tuple[dict[str, Any], ...],
    mode: Literal["auto", "required"],
    names: Sequence[str],
    is_parallel: bool,
    where: str,
) -> ToolConfig:
    """Return the tools, of which only those with these names may be called. Raises `RequestError`."""
    known = {tool["function"]["name"] for tool in tools}
    if not names or not known.issuperset(names):
        unknown = next((name for name in names if name not in known), None)
        raise RequestError(f"There is no tool named {unknown!r}." if names else "Name a tool.", where, "invalid_value")
    return ToolConfig(tools, mode, frozenset(names), is_parallel)
