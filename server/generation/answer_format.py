"""The format that a request asks of its answers."""

import msgspec

from models.llm.constraints.forms import AnswerForm


class AnswerFormat(msgspec.Struct, frozen=True):
    """The form of every answer. `field` is the request field that asks for it, which errors name."""

    form: AnswerForm
    field: str = ""
