"""What an answer is to be like, the same in every dialect: its form, and how much is reasoned before it."""

from typing import Any, Final

import msgspec

from models.errors import GrammarError
from models.llm.constraints.forms import JsonSchema
from models.llm.constraints.grammar_source import check
from server.errors import RequestError

_EFFORTS: Final = {"minimal": "low", "xhigh": "high"}  # as templates know them


def parse_json_schema(schema: dict[str, Any], where: str) -> JsonSchema:
    """Raises `RequestError` for what cannot be enforced, with its path below `where`."""
    constraint = JsonSchema(msgspec.json.encode(schema).decode())
    try:
        check(constraint)
    except GrammarError as error:
        path = error.path.replace("$", where, 1) or where
        raise RequestError(f"This schema cannot be enforced: {error.reason}.", path, "invalid_value") from None
    return constraint


def reasoning_options(effort: str | None) -> dict[str, Any]:
    """Variables of the chat template. Those it does not know are idle."""
    if not effort:
        return {}
    options: dict[str, Any] = {"reasoning_effort": _EFFORTS.get(effort, effort)}
    if effort == "none":
        options["enable_thinking"] = False
    return options
