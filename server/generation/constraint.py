"""The check whether a model can be constrained as a request asks."""

import asyncio

from models.errors import GrammarError, UnenforceableTool
from models.llm.base import ChatModel
from models.llm.chat.tool_config import ToolConfig
from server.errors import RequestError
from server.generation.answer_format import AnswerFormat


async def check_constraint(
    model: ChatModel, tool_config: ToolConfig | None, answer_format: AnswerFormat | None
) -> None:
    """Raise `UnenforceableTool` or `RequestError` if the model cannot be constrained to the tools or the format."""
    form = answer_format.form if answer_format else None
    try:
        await asyncio.to_thread(model.check_constraint, tool_config, form)
    except UnenforceableTool:
        raise
    except GrammarError as error:
        assert answer_format  # nothing but its form is left to blame
        path = error.path.replace("$", answer_format.field, 1) or answer_format.field
        raise RequestError(f"This schema cannot be enforced: {error.reason}.", path, "invalid_value") from None
