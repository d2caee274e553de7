"""Detection of the family of a model by its chat template.

Nothing but the source decides: the name of a model says little about how it was trained to call tools.
"""

from models.llm.tool_syntax.families import (
    APERTUS,
    ATEM,
    COMMAND_R,
    COMMAND_R7B,
    DEEPSEEK_R1,
    DEEPSEEK_V3_1,
    DEEPSEEK_V3_2,
    DEEPSEEK_V4,
    FOREIGN,
    FUNCTIONARY,
    FUNCTIONARY_RECIPIENTS,
    FUNCTOOLS,
    GEMMA_4,
    GENERIC,
    GIGACHAT,
    GIGACHAT_ROLE,
    GLM,
    GRANITE,
    HARMONY,
    HERMES,
    HUNYUAN,
    KIMI,
    KIMI_3,
    LFM2,
    LLAMA_3,
    MINICPM,
    MINIMAX_2,
    MINIMAX_3,
    MISTRAL,
    MISTRAL_LIST,
    NEMOTRON,
    PHI,
    QWEN_CODER,
    SEED,
    SOLAR,
    TOOL_CALLS,
)
from models.llm.tool_syntax.family import ReasoningMarkers, SyntaxFamily

# The first family counts whose signs are all in the source. `\\n` is a line break in a string of a template.
_FAMILIES: tuple[tuple[tuple[str, ...], SyntaxFamily], ...] = (
    (("<|channel|>", "<|message|>"), HARMONY),
    (("<atem:function_calls>",), ATEM),
    (("<|open|>", "<|sep|>"), KIMI_3),
    (("<|tool_call:begin|>",), SOLAR),
    (("｜DSML｜", "function_calls>"), DEEPSEEK_V3_2),
    (("｜DSML｜",), DEEPSEEK_V4),
    (("<｜tool▁call▁begin｜>", "```json"), DEEPSEEK_R1),
    (("<｜tool▁call▁begin｜>",), DEEPSEEK_V3_1),
    (("<|tool_call_begin|>",), KIMI),
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL),
    (("[TOOL_CALLS]",), MISTRAL_LIST),
    (("<|tool_call_start|>",), LFM2),
    (("<|tool_list_start|>",), LFM2),
    (("List of tools: [",), LFM2),
    (("<|tool_call>call:",), GEMMA_4),
    (("<|/tool|>",), PHI),
    (("<|tool_call|>",), GRANITE),
    (("<|START_ACTION|>",), COMMAND_R7B),
    (("Action:\\n```json",), COMMAND_R),
    (("<TOOLCALL>",), NEMOTRON),
    (("<|tools_prefix|>",), APERTUS),
    (("<|function_call|>",), GIGACHAT),
    (("'function call'", "<|role_sep|>"), GIGACHAT_ROLE),
    ((">>>all",), FUNCTIONARY_RECIPIENTS),
    (("functools",), FUNCTOOLS),
    (("]<]minimax[>[",), MINIMAX_3),
    (("<minimax:tool_call>",), MINIMAX_2),
    (("<seed:tool_call>",), SEED),
    (('<function name="',), MINICPM),
    (("<tool_sep{}>", "':opensource'"), HUNYUAN),
    (("<arg_key>",), GLM),
    (("<function=", "<parameter="), QWEN_CODER),
    (("<function=",), FUNCTIONARY),
    (("<tool_calls>",), TOOL_CALLS),
    (("<tool_call>",), HERMES),
    (('"parameters": ', "<|start_header_id|>"), LLAMA_3),
    (("<|python_tag|>",), LLAMA_3),
    (("tools",), GENERIC),
)

_REASONING_MARKERS: tuple[tuple[str, ReasoningMarkers], ...] = (
    ("<seed:think>", ReasoningMarkers("<seed:think>", "</seed:think>")),
    ("<mm:think>", ReasoningMarkers("<mm:think>", "</mm:think>")),
    ("[THINK]", ReasoningMarkers("[THINK]", "[/THINK]")),
    ("<|START_THINKING|>", ReasoningMarkers("<|START_THINKING|>", "<|END_THINKING|>")),
    ("<|inner_prefix|>", ReasoningMarkers("<|inner_prefix|>", "<|inner_suffix|>")),
    ("<|channel>thought", ReasoningMarkers("<|channel>thought", "<channel|>")),
    ("[BEGIN FINAL RESPONSE]", ReasoningMarkers("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]")),
    ("</thinking>", ReasoningMarkers("<thinking>", "</thinking>")),
    ("</think>", ReasoningMarkers("<think>", "</think>")),
)


def detect_family(source: str) -> SyntaxFamily:
    """Return the family of a chat template by its source."""
    for signs, family in _FAMILIES:
        if all(sign in source for sign in signs):
            return family
    return FOREIGN


def detect_reasoning_markers(source: str, family: SyntaxFamily) -> ReasoningMarkers | None:
    """Return the texts around reasoning, None if the template tells reasoning apart by none."""
    return family.reasoning or next((markers for sign, markers in _REASONING_MARKERS if sign in source), None)
