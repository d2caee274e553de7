"""The seam between the server and whatever generates text: a chat model, and what only a local one can do besides.

Consumers type against these protocols. `models.llm.local` implements both with an engine process; the contract is
tested by tests/models/llm/test_chat_model_contract.py.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from models.llm.chat.events import TurnEvent
from models.llm.chat.fim import Gap
from models.llm.chat.messages import ChatMessage
from models.llm.chat.prompt import Prompt
from models.llm.chat.tool_config import ToolConfig, ToolDefinition
from models.llm.constraints.forms import AnswerForm
from models.llm.gguf.info import GGUFInfo
from models.llm.params import UNBOUNDED, Adapter, CompletionBounds, Priority, SamplingParams

TurnEvents = AsyncGenerator[list[TurnEvent], None]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """Abilities that differ between chat models.

    `reasoning`: replies keep reasoning apart from the answer. `infill`: the gap between two texts can be filled.
    `extractive`: trained to answer with sentences of its sources alone.
    """

    tools: bool = True
    reasoning: bool = False
    infill: bool = False
    extractive: bool = False


class ChatModelProfile(msgspec.Struct, frozen=True, kw_only=True):
    """How a chat model is used, as the catalog and the settings say; the same wherever it runs.

    `temperature`: of requests that name none. `max_passage_chars`: characters of each passage that it is given; 0:
    whole passages. `question_first`: the question stands before the sources too. `num_slots`: generations at the same
    time. `file_name` and `sha256`: of its file, "" and None for a model without one, or of which nothing is known.
    """

    temperature: float = 0.3
    max_passage_chars: int = 0
    question_first: bool = False
    num_slots: int = 1
    file_name: str = ""
    sha256: str | None = None
    adapters: tuple[Adapter, ...] = ()


class ChatModel(Protocol):
    """A model that continues conversations."""

    @property
    def name(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def context_length(self) -> int:
        """Tokens of one conversation, the answer included. Raises `ProcessUnavailable` while it is not loaded."""

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text that stands among others."""

    def prompt(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolDefinition] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """Render a conversation. `options` are variables of the chat template. Raises `TemplateError`."""

    def check_constraint(self, tool_config: ToolConfig | None, form: AnswerForm | None) -> None:
        """Raise `UnenforceableTool` or `GrammarError` if answers cannot be constrained to these tools or this form.

        It may take long: run it in a thread.
        """

    def generate(
        self,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        tool_config: ToolConfig | None = None,
        form: AnswerForm | None = None,
        choices: Sequence[str] = (),
        client: str,
        priority: Priority = Priority.INTERACTIVE,
    ) -> TurnEvents:
        """Yield the events that each step makes certain, maybe none; the very last is a `TurnEnd`.

        `max_tokens` None: as many as the context has room for. `choices`: the answer is one of these texts. `client`:
        whose request it is; clients are served evenly. Closing the generator cancels the work. Raises
        `ContextLengthExceeded`, `UnenforceableTool`, `QueueFull`, `ProcessUnavailable`, `ProcessFailed`.
        """


class Tokenizer(Protocol):
    """A model's vocabulary and chat template, as llama.cpp's and Ollama's routes show them."""

    @property
    def chat_template(self) -> str: ...
    @property
    def bos(self) -> str:
        """Name of the token that begins a text; "" for none."""

    @property
    def eos(self) -> str:
        """Name of the token that ends an answer; "" for none."""

    @property
    def end_tokens(self) -> Collection[int]: ...
    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolDefinition] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the conversation as the chat template writes it. Raises `TemplateError`."""

    def encode_prompt(self, prompt: str | Sequence[str | int]) -> list[int]:
        """Return the tokens of a bare prompt, begun as the model's texts begin; control tokens may be named in it."""

    def tokenize(self, text: str, *, parse_special: bool = True, add_bos: bool = False) -> list[int]: ...
    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of the tokens, control tokens by name. Raises `UnknownToken`."""

    def token_bytes(self, tokens: Sequence[int]) -> list[bytes]: ...


class CompletionModel(ChatModel, Protocol):
    """A chat model on this machine: its tokens and its file are known, and it completes bare prompts too."""

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def info(self) -> GGUFInfo: ...
    def metadata(self, key: str) -> str | None:
        """Return the value of this key in the model file's header, as text."""

    def infill_prompt(self, gap: Gap, max_tokens: int | None = None) -> list[int]:
        """Return the prompt that fills the gap, with room for `max_tokens` of it. Raises `CannotInsert`."""

    def complete(
        self,
        prompt: list[int],
        sampling: SamplingParams,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        form: AnswerForm | None = None,
        bounds: CompletionBounds = UNBOUNDED,
        client: str,
        priority: Priority = Priority.INTERACTIVE,
    ) -> TurnEvents:
        """Continue a bare prompt; otherwise as `generate`. `max_tokens` 0: the prompt is read, and nothing generated.

        Raises `UnknownToken` too.
        """
