"""A rendered conversation to tokens."""

from collections.abc import Sequence
from typing import Protocol

from models.llm.chat.generated_tokens import GeneratedTokenCache
from models.llm.chat.prompt import Segment


class PromptVocabulary(Protocol):
    """What is needed of `models.llm.llama.vocabulary.PromptVocabulary`."""

    @property
    def adds_bos(self) -> bool: ...
    @property
    def bos(self) -> int: ...
    def piece(self, token: int, *, special: bool = False) -> bytes: ...
    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...


class PromptTokenizer:
    """Control tokens come from the template's text alone. Else the tokens are those of the text in one piece, as far as
    none of them would lie across the border behind a message. What an answer was drawn as, it stays.

    A SentencePiece vocabulary puts a space in front of whatever it is given, which only the beginning of a prompt and
    what follows a control token is meant to have.
    """

    _LEAD = "\x02"  # a token of its own in such a vocabulary, and the space is in front of it

    def __init__(self, vocabulary: PromptVocabulary) -> None:
        self._vocabulary = vocabulary
        first = vocabulary.tokenize("a", parse_special=False)
        self._adds_space = b"".join(map(vocabulary.piece, first)) != b"a"
        self._num_lead = len(vocabulary.tokenize(self._LEAD, parse_special=False))
        self.generated_tokens = GeneratedTokenCache(self._tokenize_content, vocabulary.piece)

    def __call__(self, segments: Sequence[Segment]) -> list[int]:
        tokens: list[int] = []
        for text, is_content in _with_own_spaces(segments):
            is_inside = bool(tokens) and self._is_text(tokens[-1])
            drawn = self.generated_tokens.of(text) if is_content else None
            tokens += drawn or self._tokenize(text, not is_content, is_inside=is_inside)
        if self._vocabulary.adds_bos and tokens[:1] != [self._vocabulary.bos]:
            tokens.insert(0, self._vocabulary.bos)
        return tokens

    def inside(self, text: str) -> list[int]:
        """Text that stands among other text: nothing is put in front of it, and it names no control tokens."""
        return self._tokenize(text, False, is_inside=True) if text else []

    def _tokenize(self, text: str, parse_special: bool, *, is_inside: bool) -> list[int]:
        if not self._adds_space or not is_inside:
            return self._vocabulary.tokenize(text, parse_special=parse_special)
        return self._vocabulary.tokenize(self._LEAD + text, parse_special=parse_special)[self._num_lead :]

    def _tokenize_content(self, text: str) -> list[int]:
        return self._tokenize(text, False, is_inside=False)

    def _is_text(self, token: int) -> bool:
        return bool(self._vocabulary.piece(token))


def _with_own_spaces(segments: Sequence[Segment]) -> list[Segment]:
    """The space between template and content goes to the content: in most vocabularies it is part of a word's token."""
    moved: list[Segment] = []
    for segment in segments:
        before = moved[-1] if moved else None
        if before and segment.is_content and not before.is_content and before.text.endswith(" "):
            moved[-1] = Segment(before.text[:-1], is_content=False)
            segment = Segment(" " + segment.text, is_content=True)
        moved.append(segment)
    return [segment for segment in moved if segment.text]
