"""A chat model whose weights are in an engine process on this machine.

Templates, tokenizing, detokenizing, stop strings and the parsing of calls run in the server, off the engine's thread.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from models.errors import CannotInsert, ContextLengthExceeded
from models.llm.base import Capabilities, TurnEvents
from models.llm.chat.chat_tokenizer import ChatTokenizer
from models.llm.chat.completion import completion_events
from models.llm.chat.detokenizer import Detokenizer
from models.llm.chat.fim import Gap, fill
from models.llm.chat.messages import ChatMessage
from models.llm.chat.output_parser import OutputParser
from models.llm.chat.prompt import Prompt, TokenPrompt
from models.llm.chat.text_stream import TextDelta, TextStream
from models.llm.chat.tool_config import ToolConfig, ToolDefinition
from models.llm.chat.turn_parser import AssistantTurnParser
from models.llm.constraints.forms import AnswerForm, ConstraintForm
from models.llm.constraints.grammar_source import check
from models.llm.engine.client import EngineClient
from models.llm.gguf.estimate import Estimate
from models.llm.gguf.info import GGUFInfo
from models.llm.params import UNBOUNDED, CompletionBounds, EngineParams, Priority, SamplingParams


class LocalChatModel:
    """A GGUF as a `ChatModel` and a `CompletionModel`. Owns its tokenizer; the engine process belongs to the caller."""

    def __init__(
        self, name: str, path: Path, engine: Callable[[], EngineClient], *, is_extractive: bool = False
    ) -> None:
        """`engine` returns the process that runs now, or raises `ProcessUnavailable`.

        `is_extractive`: JSON schemas are narrowed so that every answer ends (see `bounded_schema.py`). Raises
        `ModelFileError`, or `TemplateError` for a broken chat template.
        """
        self.name = name
        self._engine = engine
        self.tokenizer = ChatTokenizer(path)
        self.capabilities = Capabilities(
            reasoning=self.tokenizer.syntax.reasoning is not None,
            infill=self.info.can_insert,
            extractive=is_extractive,
        )

    @property
    def info(self) -> GGUFInfo:
        return self.tokenizer.vocabulary.info

    @property
    def context_length(self) -> int:
        return self._engine().ready.n_ctx

    def metadata(self, key: str) -> str | None:
        return self.tokenizer.vocabulary.metadata(key)

    def estimate(self, params: EngineParams) -> Estimate:
        """Return how much memory the engine will take."""
        return self.tokenizer.vocabulary.estimate(params)

    def count_tokens(self, text: str) -> int:
        return self.tokenizer.count_tokens(text)

    def prompt(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolDefinition] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> TokenPrompt:
        return self.tokenizer.prompt(messages, tools, options)

    def check_constraint(self, tool_config: ToolConfig | None, form: AnswerForm | None) -> None:
        if form is not None:
            check(form)
        self._constraint(tool_config, form)

    def infill_prompt(self, gap: Gap, max_tokens: int | None = None) -> list[int]:
        vocabulary = self.tokenizer.vocabulary
        if vocabulary.fim is None:
            raise CannotInsert(self.name)
        n_ctx = self.context_length
        room = n_ctx - min(max_tokens or n_ctx // 4, n_ctx // 2) - 1
        bos = vocabulary.bos if vocabulary.adds_bos else None
        return fill(gap, vocabulary.fim, self.tokenizer.prompt_tokenizer.tokenize_inside, room, bos)

    async def generate(
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
        assert isinstance(prompt, TokenPrompt), "a prompt of this model"
        tools = tool_config.callable_tools if tool_config else ()
        must_call = tool_config is not None and tool_config.choice == "required"
        syntax = self.tokenizer.syntax
        turn = AssistantTurnParser(OutputParser(syntax, bool(tools), prompt.is_reasoning, tools, must_call=must_call))
        deltas = self.stream_text(
            prompt.tokens,
            sampling,
            max_tokens=max_tokens,
            stop=stop,
            choices=choices,
            constraint=self._constraint(tool_config, form, is_reasoning=prompt.is_reasoning),
            has_markers=True,
            client=client,
            priority=priority,
        )
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                yield turn.feed(delta)

    async def complete(
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
        deltas = self.stream_text(
            prompt,
            sampling,
            max_tokens=None if max_tokens is None else max(max_tokens, 1),
            stop=stop,
            constraint=self._constraint(None, form),
            client=client,
            priority=priority,
        )
        events = completion_events(deltas, bounds, is_read_only=max_tokens == 0)
        async with contextlib.aclosing(events):
            async for step in events:
                yield step

    async def stream_text(
        self,
        prompt: list[int],
        sampling: SamplingParams,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        choices: Sequence[str] = (),
        constraint: ConstraintForm | None = None,
        has_markers: bool = False,
        client: str = "",
        priority: Priority = Priority.INTERACTIVE,
    ) -> AsyncGenerator[TextDelta, None]:
        """Yield text as it is generated; the last delta has the finish reason. Closing the generator cancels the work.

        With `has_markers` the text has the names of the control tokens that mark calls and reasoning. Raises what
        `complete` does.
        """
        engine = self._engine()
        room = engine.ready.n_ctx - len(prompt)
        if room <= 0:
            raise ContextLengthExceeded(len(prompt), engine.ready.n_ctx)
        self.tokenizer.check_tokens(prompt)
        piece = self.tokenizer.marked_piece if has_markers else self.tokenizer.piece
        text_stream = TextStream(Detokenizer(piece, stop), self.tokenizer.named_piece)
        choice_tokens = [self.tokenizer.tokenize(choice, parse_special=False) for choice in choices]
        deltas = engine.generate(
            prompt,
            min(max_tokens or room, room),
            sampling,
            choices=choice_tokens or None,
            constraint=constraint,
            client=client,
            priority=priority,
        )
        texts: list[str] = []
        tokens: list[int] = []
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                tokens += delta.tokens
                text_deltas = list(text_stream.feed(delta))
                texts += (text_delta.text for text_delta in text_deltas)
                if delta.is_last:
                    self.tokenizer.prompt_tokenizer.generated_tokens.add("".join(texts), tokens)
                for text_delta in text_deltas:
                    yield text_delta
                if text_stream.is_stopped:
                    return

    def _constraint(
        self, tool_config: ToolConfig | None, form: AnswerForm | None, *, is_reasoning: bool = False
    ) -> ConstraintForm | None:
        return self.tokenizer.constraint(
            tool_config, form, is_reasoning=is_reasoning, is_bounded=self.capabilities.extractive
        )

    def close(self) -> None:
        self.tokenizer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
