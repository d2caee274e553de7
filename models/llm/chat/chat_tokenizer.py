"""Conversations and texts to tokens and back, by the vocabulary and the chat template in a model's file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from models.errors import UnknownToken
from models.llm.chat.chat_template import CHATML, ChatTemplate
from models.llm.chat.messages import ChatMessage
from models.llm.chat.prompt import TokenPrompt
from models.llm.chat.prompt_tokenizer import PromptTokenizer
from models.llm.chat.tool_config import ToolConfig, ToolDefinition
from models.llm.chat.tool_constraint import TokenNames, tool_constraint
from models.llm.constraints.forms import AnswerForm, PrefixedForm
from models.llm.llama.vocabulary import Vocabulary


class ChatTokenizer:
    """The vocabulary of a GGUF with its chat template. Owns the open vocabulary; safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        """Open the vocabulary alone, no weights. Raises `ModelFileError`, or `TemplateError` for a broken template."""
        self.vocabulary = Vocabulary(path)
        self.prompt_tokenizer = PromptTokenizer(self.vocabulary)
        self.chat_template = self.vocabulary.chat_template or CHATML
        self._template = ChatTemplate(self.chat_template, bos=self.bos, eos=self.eos)
        self.syntax = self._template.syntax
        self._markers = self._control_markers()
        self._names = TokenNames(
            frozenset(map(self._name, self.vocabulary.end_tokens)),
            frozenset(name.decode() for name in self._markers.values()),
        )

    def _control_markers(self) -> dict[int, bytes]:
        """Return the names of control tokens that mark calls and reasoning: in the model's turns they are text."""
        markers = {}
        for name in self.syntax.control_markers:
            tokens = self.vocabulary.tokenize(name, parse_special=True)
            if len(tokens) == 1 and not self.vocabulary.piece(tokens[0]):
                markers[tokens[0]] = name.encode()
        return markers

    @property
    def bos(self) -> str:
        return self._name(self.vocabulary.bos)

    @property
    def eos(self) -> str:
        return self._name(self.vocabulary.eos)

    @property
    def end_tokens(self) -> frozenset[int]:
        return self.vocabulary.end_tokens

    def prompt(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolDefinition] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> TokenPrompt:
        """Return the conversation as tokens, control tokens from the template alone. Raises `TemplateError`.

        Tools that the template has no place for are put into the system message. `options` are variables of the
        template.
        """
        segments = self._template.render(messages, tools, options=options)
        end = "" if not segments or segments[-1].is_content else segments[-1].text
        return TokenPrompt(self.prompt_tokenizer(segments), self.syntax.starts_in_reasoning(end))

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolDefinition] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        return "".join(segment.text for segment in self._template.render(messages, tools, options=options))

    def encode_prompt(self, prompt: str | Sequence[str | int]) -> list[int]:
        parts = [prompt] if isinstance(prompt, str) else prompt
        tokens: list[int] = []
        for part in parts:
            tokens += [part] if isinstance(part, int) else self.tokenize(part)
        bos = self.vocabulary.bos
        if not tokens:
            return [bos if bos >= 0 else self.vocabulary.eos]
        is_text = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], str))
        return [bos, *tokens] if self.vocabulary.adds_bos and is_text and tokens[:1] != [bos] else tokens

    def tokenize(self, text: str, *, parse_special: bool = True, add_bos: bool = False) -> list[int]:
        return self.vocabulary.tokenize(text, parse_special=parse_special, add_bos=add_bos)

    def detokenize(self, tokens: Sequence[int]) -> str:
        self.check_tokens(tokens)
        return b"".join(self.token_bytes(tokens)).decode(errors="replace")

    def token_bytes(self, tokens: Sequence[int]) -> list[bytes]:
        return [self.named_piece(token) for token in tokens]

    def count_tokens(self, text: str) -> int:
        return len(self.vocabulary.tokenize(text, parse_special=False))

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raise `UnknownToken` for a token that is not in the vocabulary: it would fail the whole batch it is in."""
        for token in (min(tokens, default=0), max(tokens, default=0)):
            if not 0 <= token < self.vocabulary.size:
                raise UnknownToken(token, self.vocabulary.size)

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; none of a control token."""
        return self.vocabulary.piece(token)

    def named_piece(self, token: int) -> bytes:
        """Return the bytes of a token, a control token by its name."""
        return self.vocabulary.piece(token, special=True)

    def marked_piece(self, token: int) -> bytes:
        """Return the bytes of a token; of control tokens, those alone that mark calls and reasoning."""
        return self._markers.get(token) or self.vocabulary.piece(token)

    def constraint(
        self,
        tool_config: ToolConfig | None = None,
        form: AnswerForm | None = None,
        *,
        is_reasoning: bool = False,
        is_bounded: bool = False,
    ) -> PrefixedForm | None:
        """Return what a turn is constrained to: calls of the tools, else the form, after reasoning.

        `is_reasoning`: the prompt ends within the reasoning. Compiles schemas that it has not seen before. Raises
        `UnenforceableTool`.
        """
        calls = tool_config and tool_constraint(tool_config, self.syntax, self._names, form)
        answer = calls or form
        if answer is None:
            return None
        family, thinking = self.syntax.family, self.syntax.reasoning
        return PrefixedForm(
            answer,
            reasoning=(thinking.begin, thinking.end) if thinking else None,
            is_reasoning=is_reasoning,
            after_reasoning=family.after_reasoning,
            before_answer="" if calls else family.before_answer,
            is_bounded=is_bounded,
        )

    def _name(self, token: int) -> str:
        return self.named_piece(token).decode(errors="replace") if token >= 0 else ""

    def close(self) -> None:
        self.vocabulary.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
