"""The families of real chat templates: their detection, and their calls and reasoning as parsed."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.llm.chat.chat_template import ChatTemplate
from models.llm.chat.messages import ChatMessage, ToolCall
from models.llm.chat.output_parser import OutputParser
from models.llm.chat.output_syntax import OutputSyntax
from tests.models.llm.tool_syntax.samples import (
    ADD,
    TOOLS,
    WEATHER,
    calls,
    content,
    plain,
)

REAL_TEMPLATES = Path(__file__).parents[5] / "shared" / "chat_templates"
# Every real template: its family, and what the model's reasoning begins with.
NAMES = {
    "Apertus-8B-Instruct": ("apertus", "<|inner_prefix|>"),
    "Apriel-1.6-15b-Thinker-fixed": ("tool-calls", "Here are my reasoning steps:"),
    "Bielik-11B-v3.0-Instruct": ("hermes", "<think>"),
    "ByteDance-Seed-OSS": ("seed", "<seed:think>"),
    "Cohere2MoE": ("command-r7b", "<|START_THINKING|>"),
    "CohereForAI-c4ai-command-r-plus-tool_use": ("command-r", None),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("command-r7b", "<|START_THINKING|>"),
    "GLM-4.6": ("glm", "<think>"),
    "GLM-4.7-Flash": ("glm", "<think>"),
    "GigaChat3-10B-A1.8B": ("gigachat-role", None),
    "GigaChat3.1-10B-A1.8B": ("gigachat", None),
    "HuggingFaceTB-SmolLM3-3B": ("json", "<think>"),
    "Kimi-K2-Instruct": ("kimi", None),
    "Kimi-K2-Thinking": ("kimi", "<think>"),
    "Kimi-K3": ("kimi-3", "<|open|>think<|sep|>"),
    "LFM2-8B-A1B": ("lfm2", None),
    "LFM2.5-8B-A1B": ("lfm2", "<think>"),
    "LFM2.5-Instruct": ("lfm2", "<think>"),
    "MiMo-VL": ("hermes", None),
    "MiniMax-M1": ("tool-calls", None),
    "MiniMax-M2": ("minimax", "<think>"),
    "MiniMax-M3": ("minimax-3", "<mm:think>"),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistral-named", None),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("qwen-coder", "<think>"),
    "NVIDIA-Nemotron-Nano-v2": ("nemotron", "<think>"),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": ("hermes", None),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("hermes", None),
    "Qwen-QwQ-32B": ("hermes", "<think>"),
    "Qwen-Qwen2.5-7B-Instruct": ("hermes", None),
    "Qwen-Qwen3-0.6B": ("hermes", "<think>"),
    "Qwen3-Coder": ("qwen-coder", None),
    "Qwen3.5-4B": ("qwen-coder", "<think>"),
    "Reka-Edge": ("hermes", "<think>"),
    "Spark2.5": ("glm", "<think>"),
    "StepFun3.5-Flash": ("qwen-coder", "<think>"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("deepseek-r1", "<think>"),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("deepseek-r1", "<think>"),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek-v3.1", "<think>"),
    "deepseek-ai-DeepSeek-V3.2": ("deepseek-v3.2", "<think>"),
    "deepseek-ai-DeepSeek-V4": ("deepseek-v4", "<think>"),
    "deepseek-ai-DeepSeek-V4-Flash-0731": ("deepseek-v4", "<think>"),
    "fireworks-ai-llama-3-firefunction-v2": ("functools", None),
    "google-gemma-2-2b-it": ("json", None),
    "google-gemma-4-31B-it": ("gemma-4", "<|channel>thought"),
    "google-gemma-4-31B-it-interleaved": ("gemma-4", "<|channel>thought"),
    "ibm-granite-granite-3.3-2B-Instruct": ("granite", "<think>"),
    "ibm-granite-granite-4.0": ("hermes", None),
    "ibm-granite-granite-4.1": ("hermes", None),
    "inclusionai-ling-3.0-flash": ("glm", "<think>"),
    "llama-cpp-deepseek-r1": ("deepseek-r1", "<think>"),
    "llama-cpp-rwkv-world": ("json", "<think>"),
    "meetkai-functionary-medium-v3.1": ("functionary", None),
    "meetkai-functionary-medium-v3.2": ("functionary-recipients", None),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama-3", None),
    "meta-llama-Llama-3.2-3B-Instruct": ("llama-3", None),
    "meta-llama-Llama-3.3-70B-Instruct": ("llama-3", None),
    "microsoft-Phi-3.5-mini-instruct": ("json", None),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("mistral-named", "[THINK]"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral", None),
    "moonshotai-Kimi-K2": ("kimi", None),
    "muse-glimmer": ("atem", "to=self<|message|>"),
    "openai-gpt-oss-120b": ("harmony", "<|channel|>analysis<|message|>"),
    "openbmb-MiniCPM5-1B": ("minicpm", "<think>"),
    "poolside-Laguna-S-2.1": ("glm", "<think>"),
    "poolside-Laguna-XS-2.1": ("glm", "<think>"),
    "poolside-Laguna-XS.2": ("glm", "<think>"),
    "tencent-Hy3": ("hunyuan", "<think:opensource>"),
    "unsloth-Apriel-1.5": ("tool-calls", "Here are my reasoning steps:"),
    "unsloth-mistral-Devstral-Small-2507": ("mistral-named", None),
    "upstage-Solar-Open-100B": ("solar", "<|think|>"),
}
# The template writes strings in quotes without escaping them; the reader takes no values in nested tags.
EASY_ONLY = {"LFM2.5-8B-A1B", "MiniMax-M3"}
EASY: list[tuple[str, dict[str, object]]] = [WEATHER, ADD]
HARD: list[tuple[str, dict[str, object]]] = [
    ("weather", {"city": 'a\n"b" <c> \\ {d} </tool_call> it\'s 🦊', "tags": ["x", "y"], "exact": True, "unit": None}),
    ("add", {"a": {"b": [None, {}, "c"]}, "d": 0.1}),
]
REAL = sorted(REAL_TEMPLATES.glob("*.jinja"))
real_templates = pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)


@functools.cache
def real_template(path: Path) -> ChatTemplate:
    return ChatTemplate(path.read_text(), bos="<BOS>", eos="<EOS>")


@real_templates
def test_the_family_of_a_real_template_is_detected(path: Path) -> None:
    syntax = OutputSyntax.of(path.read_text())
    assert (syntax.name, syntax.reasoning and syntax.reasoning.begin) == NAMES.get(path.stem, (syntax.name, None))
    assert syntax.is_native is ("tools" in path.read_text() or syntax.name != "json")


def assistant_turn(template: ChatTemplate, name_arguments: Sequence[tuple[str, dict[str, object]]]) -> str:
    """Return the text that the model would have generated, and the end of its turn."""
    tool_calls = tuple(
        ToolCall(f"call_{at}", name, json.dumps(arguments, ensure_ascii=False))
        for at, (name, arguments) in enumerate(name_arguments)
    )
    messages = [ChatMessage.of_text("user", "Hi"), ChatMessage.of_text("assistant", tool_calls=tool_calls)]
    prompt = "".join(segment.text for segment in template.render(messages[:1], TOOLS))
    whole = "".join(segment.text for segment in template.render(messages, TOOLS, add_generation_prompt=False))
    at = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), min(len(prompt), len(whole)))
    tag = whole.rfind("<", at - 20, at)  # prompts may open reasoning, and share the beginning of its name
    return whole[tag if tag > whole.rfind(">", 0, at) else at :]


@real_templates
@pytest.mark.parametrize("is_hard", [False, True], ids=["easy", "hard"])
def test_calls_that_a_real_template_renders_are_parsed_as_those_calls(path: Path, is_hard: bool) -> None:
    template = real_template(path)
    name_arguments = HARD if is_hard else EASY
    for some in [name_arguments[:1], name_arguments[1:], name_arguments]:
        if len(some) > 1 and template.syntax.name in ("llama-3", "harmony", "gigachat", "gigachat-role"):
            continue  # one call to a turn, and a turn for each
        turn = assistant_turn(template, some)
        events = plain(OutputParser(template.syntax, tools=TOOLS).feed(turn, final=True))
        is_read = [e for e in events if isinstance(e, tuple) and e[0] == "call"][: len(some)] == calls(*some)
        assert (is_read and "city" not in content(events)) or (is_hard and path.stem in EASY_ONLY), turn


@real_templates
def test_the_end_of_a_prompt_tells_whether_reasoning_has_begun(path: Path) -> None:
    template = real_template(path)
    for is_on in (False, True):
        last = template.render([ChatMessage.of_text("user", "Hi")], options={"enable_thinking": is_on})[-1]
        begins = template.syntax.starts_in_reasoning(last.text)
        tail = last.text.rstrip()
        assert begins == tail.endswith(
            ("<think>", "<seed:think>", "reasoning steps:", "<|START_THINKING|>", "<|open|>think<|sep|>")
        )
