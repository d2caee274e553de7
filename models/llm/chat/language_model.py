"""A chat model as the server uses it: conversations in, events or text out; the weights are in another process.

Templates, tokenizing, detokenizing, stop strings and the reading of calls run here, off the engine's thread.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from models.errors import CannotInsert, ContextLengthExceeded, UnknownToken
from models.llm.chat.chat_template import CHATML, ChatTemplate
from models.llm.chat.completion import completed
from models.llm.chat.detokenizer import Detokenizer
from models.llm.chat.events import TurnEvent
from models.llm.chat.fim import Gap, fill
from models.llm.chat.logprobs import ScoredToken, TokenAlignment, candidate
from models.llm.chat.messages import ChatMessage
from models.llm.chat.parser import Parser
from models.llm.chat.prompt import Prompt
from models.llm.chat.prompt_tokenizer import PromptTokenizer
from models.llm.chat.tool_config import ToolConfig
from models.llm.chat.tool_constraint import TokenNames, tool_constraint
from models.llm.chat.turn import TextDelta, Turn
from models.llm.constraints.forms import ConstraintForm, JsonObject, JsonSchema, PrefixedForm
from models.llm.engine.client import EngineClient
from models.llm.engine.messages import Delta, TokenLogprobs
from models.llm.engine.sequence import FinishReason
from models.llm.gguf.estimate import Estimate
from models.llm.gguf.info import GGUFInfo
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import UNBOUNDED, CompletionBounds, EngineParams, Priority, SamplingParams


class LanguageModel:
    """`engine` gives the process that is running now, or raises `ProcessUnavailable`. `has_bounded_schemas`: JSON
    is constrained to schemas narrowed so that every answer ends."""

    def __init__(
        self, name: str, path: Path, engine: Callable[[], EngineClient], *, has_bounded_schemas: bool = False
    ) -> None:
        """Reads the vocabulary only. Raises `ModelFileError`, or `TemplateError` for a broken chat template."""
        self.name = name
        self._engine = engine
        self._has_bounded_schemas = has_bounded_schemas
        self._vocabulary = Vocabulary(path)
        self._tokenize = PromptTokenizer(self._vocabulary)
        self._template = ChatTemplate(
            self._vocabulary.chat_template or CHATML,
            bos=self.piece(self._vocabulary.bos),
            eos=self.piece(self._vocabulary.eos),
        )
        self._syntax = self._template.syntax
        self._markers = self._control_markers()
        self._names = TokenNames(
            frozenset(map(self.piece, self._vocabulary.end_tokens)),
            frozenset(name.decode() for name in self._markers.values()),
        )

    def _control_markers(self) -> dict[int, bytes]:
        """Control tokens with which the model marks calls and reasoning: in its turns they are text."""
        markers = {}
        for name in self._syntax.control_markers:
            tokens = self._vocabulary.tokenize(name, parse_special=True)
            if len(tokens) == 1 and not self._vocabulary.piece(tokens[0]):
                markers[tokens[0]] = name.encode()
        return markers

    def estimate(self, params: EngineParams) -> Estimate:
        """How much memory its engine will take."""
        return self._vocabulary.estimate(params)

    @property
    def facts(self) -> GGUFInfo:
        return self._vocabulary.info

    @property
    def can_reason(self) -> bool:
        """Whether its template tells reasoning from the answer."""
        return self._syntax.thinking is not None

    @property
    def template(self) -> str:
        """The chat template's source."""
        return self._vocabulary.chat_template or CHATML

    def metadata(self, key: str) -> str | None:
        """What the file's header says under this key, as text."""
        return self._vocabulary.metadata(key)

    @property
    def bos(self) -> str:
        """The name of the token that begins a text; "" for none."""
        return self.piece(self._vocabulary.bos)

    @property
    def eos(self) -> str:
        return self.piece(self._vocabulary.eos)

    @property
    def end_tokens(self) -> frozenset[int]:
        return self._vocabulary.end_tokens

    @property
    def n_ctx(self) -> int:
        """Tokens of one conversation, the answer included; known once the engine runs."""
        return self._engine().ready.n_ctx

    def prompt(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """The conversation as tokens, control tokens from the template alone. Raises `TemplateError`.

        `tools` are OpenAI function tools; a template that has no place for them gets them in the system message.
        `options` are the template's own variables.
        """
        segments = self._template.render(messages, tools, options=options)
        end = "" if not segments or segments[-1].is_content else segments[-1].text
        return Prompt(self._tokenize(segments), self._syntax.starts_in_reasoning(end))

    def rendered(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as the template writes it. Raises `TemplateError`."""
        return "".join(segment.text for segment in self._template.render(messages, tools, options=options))

    def raw(self, prompt: str | Sequence[str | int]) -> list[int]:
        """A prompt as it is: names of control tokens are those tokens. Begins as the model's texts do."""
        parts = [prompt] if isinstance(prompt, str) else prompt
        tokens: list[int] = []
        for part in parts:
            tokens += [part] if isinstance(part, int) else self.tokenize(part)
        bos = self._vocabulary.bos
        if not tokens:
            return [bos if bos >= 0 else self._vocabulary.eos]
        is_text = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], str))
        return [bos, *tokens] if self._vocabulary.adds_bos and is_text and tokens[:1] != [bos] else tokens

    def filling(self, gap: Gap, max_tokens: int | None = None) -> list[int]:
        """The prompt for what belongs into the gap, with room for `max_tokens` of it. Raises `CannotInsert`."""
        tokens = self._vocabulary.fim
        if tokens is None:
            raise CannotInsert(self.name)
        n_ctx = self.n_ctx
        room = n_ctx - min(max_tokens or n_ctx // 4, n_ctx // 2) - 1
        return fill(
            gap, tokens, self._tokenize.inside, room, self._vocabulary.bos if self._vocabulary.adds_bos else None
        )

    def tokenize(self, text: str, *, parse_special: bool = True, add_bos: bool = False) -> list[int]:
        return self._vocabulary.tokenize(text, parse_special=parse_special, add_bos=add_bos)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """With control tokens by name. Raises `UnknownToken`."""
        self._check(tokens)
        return b"".join(map(self._piece, tokens)).decode(errors="replace")

    def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        return [self._piece(token) for token in tokens]

    def count_tokens(self, text: str) -> int:
        """Of a text that stands among others."""
        return len(self._vocabulary.tokenize(text, parse_special=False))

    def piece(self, token: int) -> str:
        """A token as text, control tokens by name; "" for none."""
        return self._vocabulary.piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def constraint(
        self, prompt: Prompt, tool_config: ToolConfig | None = None, form: JsonSchema | JsonObject | None = None
    ) -> ConstraintForm | None:
        """What a turn behind this prompt is held to: calls of the tools, else the form. It may reason first.

        Compiles what it has not seen before. Raises `UnenforceableTool`.
        """
        calls = tool_config and tool_constraint(tool_config, self._syntax, self._names, form)
        answer = calls or form
        if answer is None:
            return None
        family, thinking = self._syntax.family, self._syntax.thinking
        return PrefixedForm(
            answer,
            reasoning=(thinking.begin, thinking.end) if thinking else None,
            is_reasoning=prompt.is_reasoning,
            after_reasoning=family.after_reasoning,
            before_answer="" if calls else family.before_answer,
            is_bounded=self._has_bounded_schemas,
        )

    async def turn(
        self,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        tool_config: ToolConfig | None = None,
        choices: Sequence[str] = (),
        constraint: ConstraintForm | None = None,
        client: str,
        priority: Priority = Priority.INTERACTIVE,
    ) -> AsyncGenerator[list[TurnEvent], None]:
        """The answer's events as they are certain, of every step, were it none; a `TurnEnd` is the last. Closing the
        generator cancels the work. Raises what `generate` does."""
        tools = tool_config.callable_tools if tool_config else ()
        must_call = tool_config is not None and tool_config.choice == "required"
        turn = Turn(Parser(self._syntax, bool(tools), prompt.is_reasoning, tools, must_call=must_call))
        deltas = self.generate(
            prompt.tokens,
            sampling,
            max_tokens=max_tokens,
            stop=stop,
            choices=choices,
            constraint=constraint,
            has_markers=True,
            client=client,
            priority=priority,
        )
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                yield turn.feed(delta)

    async def generate(
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
        """Text as it is made; the last delta has the finish reason. Closing the generator cancels the work.

        `max_tokens` None: as far as the context goes. With `choices` the answer is one of them, with `constraint` it
        is of that form; with `has_markers` the text is for a `Turn`. Raises `ContextLengthExceeded`, `UnknownToken`,
        `QueueFull`, `ProcessUnavailable`, `ProcessFailed`.
        """
        engine = self._engine()
        room = engine.ready.n_ctx - len(prompt)
        if room <= 0:
            raise ContextLengthExceeded(len(prompt), engine.ready.n_ctx)
        self._check(prompt)
        text = _Text(Detokenizer(self._marked_piece if has_markers else self._vocabulary.piece, stop), self._piece)
        allowed = [self._vocabulary.tokenize(choice, parse_special=False) for choice in choices]
        deltas = engine.generate(
            prompt,
            min(max_tokens or room, room),
            sampling,
            choices=allowed or None,
            constraint=constraint,
            client=client,
            priority=priority,
        )
        told: list[str] = []
        drawn: list[int] = []
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                drawn += delta.tokens
                pieces = list(text.feed(delta))
                told += (piece.text for piece in pieces)
                if delta.is_last:
                    self._tokenize.spellings.learn("".join(told), drawn)
                for piece in pieces:
                    yield piece
                if text.is_stopped:
                    return

    async def complete(
        self,
        prompt: list[int],
        sampling: SamplingParams,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        constraint: ConstraintForm | None = None,
        bounds: CompletionBounds = UNBOUNDED,
        client: str,
        priority: Priority = Priority.INTERACTIVE,
    ) -> AsyncGenerator[list[TurnEvent], None]:
        """What comes behind a bare prompt, as events; a `TurnEnd` is the last. `max_tokens` 0: the prompt is read, no
        more. Closing the generator cancels the work. Raises what `generate` does."""
        deltas = self.generate(
            prompt,
            sampling,
            max_tokens=None if max_tokens is None else max(max_tokens, 1),
            stop=stop,
            constraint=constraint,
            client=client,
            priority=priority,
        )
        events = completed(deltas, bounds, is_read_only=max_tokens == 0)
        async with contextlib.aclosing(events):
            async for each in events:
                yield each

    def _check(self, tokens: Sequence[int]) -> None:
        for token in (min(tokens, default=0), max(tokens, default=0)):
            if not 0 <= token < self._vocabulary.size:  # it would fail the whole batch that it is in
                raise UnknownToken(token, self._vocabulary.size)

    def _piece(self, token: int) -> bytes:
        return self._vocabulary.piece(token, special=True)

    def _marked_piece(self, token: int) -> bytes:
        return self._markers.get(token) or self._vocabulary.piece(token)

    def close(self) -> None:
        self._vocabulary.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Text:
    """The text of one answer, with its tokens if their log probabilities are told."""

    def __init__(self, detokenizer: Detokenizer, piece: Callable[[int], bytes]) -> None:
        self._detokenizer = detokenizer
        self._piece = piece
        self._trail = TokenAlignment()

    @property
    def is_stopped(self) -> bool:
        return self._detokenizer.is_stopped

    def feed(self, delta: Delta) -> Iterator[TextDelta]:
        """In one piece, or token by token, so that each stays with its text."""
        if not delta.logprobs:
            yield self._piece_of(delta, delta.tokens, delta.is_last)
            return
        last = len(delta.tokens) - 1
        for at, told in enumerate(delta.logprobs):
            yield self._piece_of(delta, [told.token], delta.is_last and at == last, told)
            if self.is_stopped:
                return

    def _piece_of(self, delta: Delta, tokens: list[int], is_last: bool, told: TokenLogprobs | None = None) -> TextDelta:
        text = self._detokenizer.feed(tokens, final=is_last)
        if told:
            top = tuple(candidate(self._piece(token), logprob) for token, logprob in told.top)
            chosen = candidate(self._piece(told.token), told.logprob)
            self._trail.push([ScoredToken(self._detokenizer.decoded, chosen, top)])
        scored = self._trail.take(text, self._detokenizer.num_held)
        finish_reason = FinishReason.STOP if self.is_stopped else delta.finish_reason if is_last else None
        stopped_by = self._detokenizer.stopped_by
        return TextDelta(text, len(tokens), finish_reason, delta.num_cached, scored, stopped_by)
