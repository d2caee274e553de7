r"""Forms that an answer can be constrained to, as data: what a request asks for and what is sent to the engine.

`models.llm.constraints.grammar` enforces them.
"""

import msgspec


class JsonSchema(msgspec.Struct, tag=True, frozen=True):
    """JSON that is valid under a schema."""

    schema: str  # JSON text


class JsonObject(msgspec.Struct, tag=True, frozen=True):
    """Any JSON object."""


class Regex(msgspec.Struct, tag=True, frozen=True):
    r"""A text that `pattern` matches as a whole.

    The syntax is that of Rust's regex crate, with `\d` and `\w` of ASCII as in JSON Schema.
    """

    pattern: str


class ToolSchema(msgspec.Struct, frozen=True):
    name: str
    parameters: str = "{}"  # JSON Schema of the arguments, which are always an object


class ToolCallForm(msgspec.Struct, frozen=True):
    """How a model writes calls: `opening`, calls with `separator` between them, `closing`. Defaults: Hermes and Qwen.

    A call is `before`, the tool's name escaped as in a JSON string, `between`, the arguments, `after`. In `between`,
    `NAME` stands for the tool's name once more. Names of control tokens stand for those tokens, so these texts come
    from the server and never from a request.
    """

    opening: str = ""
    before: str = '<tool_call>\n{"name": "'
    between: str = '", "arguments": '
    after: str = "}\n</tool_call>"
    separator: str = "\n"
    closing: str = ""


class ToolCalls(msgspec.Struct, tag=True, frozen=True):
    """A call of one of these tools, several if `parallel`; or, where `otherwise` is given, an answer of that form.

    With a `trigger`, which `form` begins with, nothing is constrained until the trigger has been generated outside of
    reasoning. A trigger needs the calls to be in a `PrefixedForm`.
    """

    tools: tuple[ToolSchema, ...]
    form: ToolCallForm = ToolCallForm()
    parallel: bool = False
    otherwise: JsonSchema | JsonObject | None = None
    trigger: str = ""


class PrefixedForm(msgspec.Struct, tag=True, frozen=True):
    """An answer behind the response prefix that the model writes itself: reasoning, then scaffold.

    The texts come from the server, as in `ToolCallForm`. `is_bounded`: schemas are narrowed so that every answer ends
    (see `bounded_schema.py`).
    """

    answer: JsonSchema | JsonObject | ToolCalls
    reasoning: tuple[str, str] | None = None  # texts that begin and end it
    is_reasoning: bool = False  # the prompt ends within reasoning; else the answer may begin with some
    after_reasoning: str = ""  # scaffold between reasoning and answer
    before_answer: str = ""  # scaffold in front of the answer
    is_bounded: bool = False


AnswerForm = JsonSchema | JsonObject
ConstraintForm = JsonSchema | JsonObject | Regex | ToolCalls | PrefixedForm
