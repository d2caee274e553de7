"""The form of an answer and its reasoning effort, as every API requests them."""

from typing import Any, Final

import msgspec

from models.errors import GrammarError
from models.llm.constraints.forms import JsonSchema
from models.llm.constraints.grammar_source import check
from server.errors import RequestError

_EFFORTS: Final = {"minimal": "low", "xhigh": "high"}  # OpenAI's efforts that chat templates do not know


def parse_json_schema(schema: dict[str, Any], where: str) -> JsonSchema:
    """Return the schema as an output constraint. Raises `RequestError`, with the path below `where`, if it cannot be
    enforced."""
    constraint = JsonSchema(msgspec.json.encode(schema).decode())
    try:
        check(constraint)
    except GrammarError as error:
        path = error.path.replace("$", where, 1) or where
        raise RequestError(f"This schema cannot be enforced: {error.reason}.", path, "invalid_value") from None
    return constraint


def reasoning_options(effort: str | None) -> dict[str, Any]:
    """Return the variables of the chat template that set the effort. A template ignores those it does not know."""
    if not effort:
        return {}
    options: dict[str, Any] = {"reasoning_effort": _EFFORTS.get(effort, effort)}
    if effort == "none":
        options["enable_thinking"] = False
    return options
