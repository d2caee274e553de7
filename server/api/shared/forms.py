"""The form of an answer and its reasoning effort, as every API requests them."""

from typing import Any, Final

import msgspec

from models.llm.constraints.forms import JsonSchema
from server.generation.answer_format import AnswerFormat

_EFFORTS: Final = {"minimal": "low", "xhigh": "high"}  # OpenAI's efforts that chat templates do not know


def parse_json_schema(schema: dict[str, Any], field: str) -> AnswerFormat:
    """Return the format of answers that are valid under the schema, which is in this field of the request."""
    return AnswerFormat(JsonSchema(msgspec.json.encode(schema).decode()), field)


def reasoning_options(effort: str | None) -> dict[str, Any]:
    """Return the variables of the chat template that set the effort. A template ignores those it does not know."""
    if not effort:
        return {}
    options: dict[str, Any] = {"reasoning_effort": _EFFORTS.get(effort, effort)}
    if effort == "none":
        options["enable_thinking"] = False
    return options
