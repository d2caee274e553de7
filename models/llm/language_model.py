"""A chat model as the server uses it: text in, text out; the weights are in another process.

Templates, tokenizing, detokenizing and stop strings run here, off the engine's thread.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from models.errors import ContextLengthExceeded
from models.llm.chat_template import CHATML, ChatMessage, ChatTemplate
from models.llm.client import EngineClient
from models.llm.detokenizer import Detokenizer
from models.llm.grammar import Constraint
from models.llm.llama import Vocabulary
from models.llm.params import SamplingParams
from models.llm.sequence import FinishReason


class TextDelta(NamedTuple):
    text: str
    num_tokens: int
    finish_reason: FinishReason | None
    num_cached: int  # tokens of the prompt that needed no computing


class LanguageModel:
    """`engine` gives the process that is running now, or raises `ProcessUnavailable`."""

    def __init__(self, name: str, path: Path, engine: Callable[[], EngineClient]) -> None:
        """Reads the vocabulary only. Raises `ModelFileError`, or `TemplateError` for a broken chat template."""
        self.name = name
        self._engine = engine
        self._vocabulary = Vocabulary(path)
        self._template = ChatTemplate(
            self._vocabulary.chat_template or CHATML,
            bos=self._token_name(self._vocabulary.bos),
            eos=self._token_name(self._vocabulary.eos),
        )

    def _token_name(self, token: int) -> str:
        return self._vocabulary.piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    @property
    def n_ctx(self) -> int:
        """Tokens of one conversation, the answer included; known once the engine runs."""
        return self._engine().hello.n_ctx

    def prompt(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The conversation as tokens, control tokens from the template alone. Raises `TemplateError`."""
        segments = self._template.render(messages)
        tokens: list[int] = []
        for text, is_content in segments:
            tokens += self._vocabulary.tokenize(text, parse_special=not is_content)
        if self._vocabulary.adds_bos and tokens[:1] != [self._vocabulary.bos]:
            tokens.insert(0, self._vocabulary.bos)
        return tokens

    def piece(self, token: int) -> str:
        """A token as text, control tokens by name: for tests and explanations."""
        return self._token_name(token)

    async def generate(
        self,
        prompt: list[int],
        sampling: SamplingParams,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        choices: Sequence[str] = (),
        constraint: Constraint | None = None,
    ) -> AsyncGenerator[TextDelta, None]:
        """Text as it is made; the last delta has the finish reason. Closing the generator cancels the work.

        `max_tokens` None: as far as the context goes. With `choices` the answer is one of them, with `constraint` it
        is of that form. Raises `ContextLengthExceeded`, `QueueFull`, `ProcessUnavailable`, `ProcessFailed`.
        """
        engine = self._engine()
        room = engine.hello.n_ctx - len(prompt)
        if room <= 0:
            raise ContextLengthExceeded(len(prompt), engine.hello.n_ctx)
        text = Detokenizer(self._vocabulary.piece, stop)
        allowed = [self._vocabulary.tokenize(choice, parse_special=False) for choice in choices]
        deltas = engine.generate(
            prompt, min(max_tokens or room, room), sampling, choices=allowed or None, constraint=constraint
        )
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                piece = text.feed(delta.tokens, final=delta.is_last)
                finish_reason = FinishReason.STOP if text.is_stopped else delta.finish_reason
                yield TextDelta(piece, len(delta.tokens), finish_reason, delta.num_cached)
                if text.is_stopped:
                    return

    def close(self) -> None:
        self._vocabulary.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
