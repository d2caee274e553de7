"""A scripted chat model for tests: a `ChatModel` and `CompletionModel` without weights or a process."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import ContextLengthExceeded
from models.llm.base import Capabilities, TurnEvents
from models.llm.chat.events import Content, EndReason, TurnEnd, TurnEvent
from models.llm.chat.fim import Gap
from models.llm.chat.messages import ChatMessage
from models.llm.chat.prompt import Prompt, TokenPrompt
from models.llm.chat.tool_config import ToolConfig, ToolDefinition
from models.llm.constraints.forms import AnswerForm
from models.llm.constraints.grammar_source import check
from models.llm.gguf.info import GGUFInfo
from models.llm.params import SamplingParams

NUM_GENERATED = 3  # tokens that a whole answer is said to have, whatever its text
INFO = GGUFInfo(
    n_ctx_train=32_768,
    n_params=1_000_000,
    size=2_000_000,
    n_embd=64,
    n_vocab=512,
    vocab_type=2,
    can_insert=True,
)


def render(messages: Sequence[ChatMessage]) -> TokenPrompt:
    """Return a prompt in which every token is a character."""
    return TokenPrompt([ord(c) for m in messages for c in f"<{m.role}>{m.text}</{m.role}>"] + [ord(">")])


class ScriptedTokenizer:
    """A token is a character."""

    chat_template = "{{ messages }}"
    bos = ""
    eos = ""
    end_tokens: frozenset[int] = frozenset()

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolDefinition] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        return self.detokenize(render(messages).tokens)

    def encode_prompt(self, prompt: str | Sequence[str | int]) -> list[int]:
        return [ord(c) for part in prompt for c in str(part)] or [0]

    def tokenize(self, text: str, *, parse_special: bool = True, add_bos: bool = False) -> list[int]:
        return [ord(c) for c in text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def token_bytes(self, tokens: Sequence[int]) -> list[bytes]:
        return [chr(token).encode() for token in tokens]


class ScriptedChatModel:
    """Generates the text `says`, one character an event, then `events`. Records the prompts and keyword arguments."""

    name = "played"
    context_length = 20_000
    capabilities = Capabilities(reasoning=True, infill=True)
    info = INFO

    def __init__(self) -> None:
        self.says = "Yes [1]."
        self.events: Sequence[TurnEvent] = ()  # after the text
        self.prompts: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.tokenizer = ScriptedTokenizer()

    def metadata(self, key: str) -> str | None:
        return {"general.architecture": "llama", "general.file_type": "15"}.get(key)

    def count_tokens(self, text: str) -> int:
        return len(text)

    def prompt(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolDefinition] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> TokenPrompt:
        return render(messages)

    def check_constraint(self, tool_config: ToolConfig | None, form: AnswerForm | None) -> None:
        if form is not None:
            check(form)

    def infill_prompt(self, gap: Gap, max_tokens: int | None = None) -> list[int]:
        return [0]

    async def generate(
        self,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        max_tokens: int | None = None,
        choices: Sequence[str] = (),
        **arguments: Any,
    ) -> TurnEvents:
        assert isinstance(prompt, TokenPrompt), "a prompt of this model"
        self.prompts.append(self.tokenizer.detokenize(prompt.tokens))
        self.requests.append({"sampling": sampling, "max_tokens": max_tokens, "choices": choices, **arguments})
        for step in self._steps(prompt.tokens, choices[0] if choices else self.says, max_tokens):
            yield step

    async def complete(
        self, prompt: list[int], sampling: SamplingParams, *, max_tokens: int | None = None, **arguments: Any
    ) -> TurnEvents:
        self.requests.append({"sampling": sampling, "max_tokens": max_tokens, **arguments})
        for step in self._steps(prompt, self.says, None):
            yield step

    def _steps(self, prompt: list[int], text: str, max_tokens: int | None) -> list[list[TurnEvent]]:
        if len(prompt) >= self.context_length:
            raise ContextLengthExceeded(len(prompt), self.context_length)
        is_cut = max_tokens is not None and max_tokens < len(text)
        reason = EndReason.LENGTH if is_cut else EndReason.STOP
        num_generated = max_tokens if is_cut and max_tokens is not None else NUM_GENERATED
        end = TurnEnd(reason, num_generated=num_generated, num_reasoning=0, num_cached=0)
        steps: list[list[TurnEvent]] = [[Content(character)] for character in text[:max_tokens]]
        return [*steps, [*self.events, end]]
