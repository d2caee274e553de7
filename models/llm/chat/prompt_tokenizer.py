"""Tokenizing of a rendered conversation."""

from collections.abc import Sequence
from typing import Protocol

from models.llm.chat.generated_tokens import GeneratedTokenCache
from models.llm.chat.prompt import Segment


class PromptVocabulary(Protocol):
    """The part of `models.llm.llama.vocabulary.Vocabulary` that tokenizing a prompt needs."""

    @property
    def adds_bos(self) -> bool: ...
    @property
    def bos(self) -> int: ...
    def piece(self, token: int, *, special: bool = False) -> bytes: ...
    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...


class PromptTokenizer:
    """Tokenizes segments so that control tokens come from the template's text alone.

    Other tokens are those of the text in one piece, except that none lies across the end of a message. Answers keep
    the tokens they were drawn as.

    A SentencePiece vocabulary puts a space in front of any text, which is right only at the start of a prompt and
    after a control token. Elsewhere the text is tokenized behind `_LEAD`, whose tokens are then removed.
    """

    _LEAD = "\x02"  # a token of its own in such a vocabulary

    def __init__(self, vocabulary: PromptVocabulary) -> None:
        self._vocabulary = vocabulary
        first = vocabulary.tokenize("a", parse_special=False)
        self._adds_space = b"".join(map(vocabulary.piece, first)) != b"a"
        self._num_lead = len(vocabulary.tokenize(self._LEAD, parse_special=False))
        self.generated_tokens = GeneratedTokenCache(self._tokenize_content, vocabulary.piece)

    def __call__(self, segments: Sequence[Segment]) -> list[int]:
        tokens: list[int] = []
        for text, is_content in _move_spaces(segments):
            is_inside = bool(tokens) and self._is_text(tokens[-1])
            drawn = self.generated_tokens.get(text) if is_content else None
            tokens += drawn or self._tokenize(text, not is_content, is_inside=is_inside)
        if self._vocabulary.adds_bos and tokens[:1] != [self._vocabulary.bos]:
            tokens.insert(0, self._vocabulary.bos)
        return tokens

    def tokenize_inside(self, text: str) -> list[int]:
        """Return the tokens of a text within other text: no space is added, and it names no control tokens."""
        return self._tokenize(text, False, is_inside=True) if text else []

    def _tokenize(self, text: str, parse_special: bool, *, is_inside: bool) -> list[int]:
        if not self._adds_space or not is_inside:
            return self._vocabulary.tokenize(text, parse_special=parse_special)
        return self._vocabulary.tokenize(self._LEAD + text, parse_special=parse_special)[self._num_lead :]

    def _tokenize_content(self, text: str) -> list[int]:
        return self._tokenize(text, False, is_inside=False)

    def _is_text(self, token: int) -> bool:
        return bool(self._vocabulary.piece(token))


def _move_spaces(segments: Sequence[Segment]) -> list[Segment]:
    """Move a space between template and content to the content: most vocabularies have it in a word's token."""
    moved: list[Segment] = []
    for segment in segments:
        before = moved[-1] if moved else None
        if before and segment.is_content and not before.is_content and before.text.endswith(" "):
            moved[-1] = Segment(before.text[:-1], is_content=False)
            segment = Segment(" " + segment.text, is_content=True)
        moved.append(segment)
    return [segment for segment in moved if segment.text]
