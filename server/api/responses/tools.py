"""Tools of a /v1/responses request: the vector stores to search, and the functions that the model may call."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from models.llm.chat.tool_config import ToolConfig
from server.api.responses.wire import ResponseRequest, ResponseTool, ResponseToolChoice
from server.api.shared.tools import describe_tools, tool_config_for_mode, tool_config_for_names
from server.api.vector_stores.request import parse_filter
from server.api.vector_stores.wire import FilterRequest
from server.errors import RequestError
from server.files.filters import Filter


class FileSearch(NamedTuple):
    """The vector stores to search. `max_results` None: as many passages as the settings say."""

    store_ids: Sequence[str]
    filter: Filter | None = None
    max_results: int | None = None
    min_score: float = 0.0


def parse_file_search(data: ResponseRequest) -> FileSearch | None:
    """Return the request's file search; None if it has none, or forbids all tools. Raises `RequestError`."""
    searches = [(at, tool) for at, tool in enumerate(data.tools or ()) if tool.type == "file_search"]
    if not searches or data.tool_choice == "none":
        return None
    if len(searches) > 1:
        raise RequestError("Only one file search is possible; name all stores in it.", f"tools[{searches[1][0]}]")
    at, tool = searches[0]
    if not tool.vector_store_ids:
        where = f"tools[{at}].vector_store_ids"
        raise RequestError("Name the vector stores to search.", where, "missing_required_parameter")
    ranking = tool.ranking_options
    return FileSearch(
        store_ids=tool.vector_store_ids,
        filter=_parse_filter(tool.filters, f"tools[{at}].filters"),
        max_results=tool.max_num_results,
        min_score=(ranking.score_threshold if ranking else None) or 0.0,
    )


def _parse_filter(filters: Any, where: str) -> Filter | None:
    try:
        return parse_filter(msgspec.convert(filters, FilterRequest | None), where)
    except msgspec.ValidationError as error:
        raise RequestError(f"{error}.", where, "invalid_value") from None


def parse_tool_config(data: ResponseRequest) -> ToolConfig | None:
    """Return the functions that the model may or must call; None if there are none. Raises `RequestError`."""
    tools = describe_tools([_describe_function(at, tool) for at, tool in _functions(data)], "tools[{}].name")
    choice, is_parallel = data.tool_choice, data.parallel_tool_calls is not False
    if isinstance(choice, ResponseToolChoice):
        return _choose_tools(tools, choice, is_parallel)
    has_search = any(tool.type == "file_search" for tool in data.tools or ())
    if choice in ("required", "any") and not tools and has_search:
        return None  # the required call is the file search, which always happens
    return tool_config_for_mode(tools, choice or "auto", is_parallel, "tool_choice")


def _choose_tools(
    tools: tuple[dict[str, Any], ...], choice: ResponseToolChoice, is_parallel: bool
) -> ToolConfig | None:
    match choice.type:
        case "function":
            return tool_config_for_names(tools, "required", [choice.name or ""], False, "tool_choice.name")
        case "allowed_tools":
            names = [tool.name or "" for tool in choice.tools or () if tool.type == "function"]
            mode = choice.mode or "auto"
            return tool_config_for_names(tools, mode, names, is_parallel, "tool_choice.tools") if names else None
        case "file_search":
            return tool_config_for_mode(tools, "auto", is_parallel, "tool_choice")
    message = f"Unknown tool choice {choice.type!r}; use function, allowed_tools or file_search."
    raise RequestError(message, "tool_choice.type")


def _functions(data: ResponseRequest) -> Iterator[tuple[int, ResponseTool]]:
    for at, tool in enumerate(data.tools or ()):
        if tool.type == "function":
            yield at, tool
        elif tool.type != "file_search":
            message = f"Unknown tool type {tool.type!r}; use function or file_search."
            raise RequestError(message, f"tools[{at}].type")


def _describe_function(at: int, tool: ResponseTool) -> dict[str, Any]:
    if tool.name is None:
        raise RequestError("A function needs a name.", f"tools[{at}].name", "missing_required_parameter")
    fields = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {"name": tool.name} | {name: value for name, value in fields.items() if value is not None}
