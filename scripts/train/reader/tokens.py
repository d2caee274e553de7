"""The tokenizer, and conversations as tokens with their labels: where each token of an answer comes from."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers

from reader.conversation import QUESTION_PREFIX, Message
from reader.corpus import STOP_WORDS, stem

PAD, END = 0, 1
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")  # in the order of their ids
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_SPACE = "Ġ"  # a leading space in byte-level BPE


class LabeledTokens(NamedTuple):
    """The tokens of a conversation and their labels, each of shape [tokens]; positions are -1 where there is none.

    Labels of a source's tokens: the `sentence_start`, the position of the `source_number`, and of its opening bracket,
    `source_mark`. Where the question stands in front of the sources too: `lead_start`, its first token;
    `matching_token`, its first token of the same stem; and, at a sentence's last token, `is_relevant`: 1 if the answer
    quotes the sentence, else 0. Tokens of that leading question have its message's beginning as `source_mark`.

    Labels of a token that precedes a token of an answer: `copied_token`, the position in a source that the next token
    is copied from; `selected_sentence`, the end of the quoted sentence, or the message's beginning in a refusal;
    `question_start` and `question_end`.
    """

    ids: np.ndarray
    is_answer: np.ndarray
    sentence_start: np.ndarray
    source_number: np.ndarray
    source_mark: np.ndarray
    copied_token: np.ndarray
    selected_sentence: np.ndarray
    question_start: np.ndarray
    question_end: np.ndarray
    lead_start: np.ndarray
    matching_token: np.ndarray
    is_relevant: np.ndarray


POSITION_LABELS = LabeledTokens._fields[2:]


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer that splits like llama.cpp's "gpt-2". Every number up to 99 is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = [" ".join(f"[{number}]" for number in range(100))] * 200
    tokenizer.train_from_iterator([*numbers, *texts], trainer)
    return tokenizer


def read_tokenizer(file: Path) -> Tokenizer:
    return Tokenizer.from_file(str(file))


def _without_space(token: str) -> str:
    return token.lstrip(_SPACE)


def _vocabulary(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]


def _role_id(role: str) -> int:
    """Return the special token that begins a message of a role."""
    return SPECIAL.index(f"<|{role}|>")


def content_token_mask(tokenizer: Tokenizer) -> np.ndarray:
    """Return whether each token of the vocabulary may belong to a content word: [vocabulary]."""

    def is_content(token: str) -> bool:
        text = _without_space(token)
        return token not in SPECIAL and text.lower() not in STOP_WORDS and any(c.isalnum() for c in text)

    return np.array([is_content(token) for token in _vocabulary(tokenizer)])


class TokenFeatures(NamedTuple):
    """Features that a token shares with others: its spelling in lower case, its stem, and its form.

    The form says whether the token begins with a space and whether it begins with a capital.
    """

    spelling: str
    stem: str
    form: str


def token_features(tokenizer: Tokenizer) -> list[TokenFeatures]:
    """Return the features of each token of the vocabulary."""
    features = []
    for token in _vocabulary(tokenizer):
        text = _without_space(token)
        features.append(TokenFeatures(text.lower(), stem(text), f"{token[:1] == _SPACE} {text[:1].isupper()}"))
    return features


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[tuple[str, str]]) -> list[int]:
    """Return the tokens of the chat template for these roles and texts, with the beginning of an answer."""
    ids: list[int] = []
    newline = tokenizer.encode("\n").ids
    for role, text in messages:
        ids += [_role_id(role), *newline, *tokenizer.encode(text).ids, END, *newline]
    return [*ids, _role_id("assistant"), *newline]


class StemIndex:
    """The stem of each content token of a vocabulary, as a number."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        stems = [features.stem for features in token_features(tokenizer)]
        numbers = {name: i for i, name in enumerate(dict.fromkeys(stems))}
        self._stems = np.where(content_token_mask(tokenizer), np.array([numbers[name] for name in stems]), -1)

    def matches(self, question: Sequence[int], ids: Sequence[int]) -> np.ndarray:
        """Return for each of `ids` the first index in `question` of a token with the same stem; -1 for none."""
        indexes = {int(self._stems[token]): i for i, token in reversed(list(enumerate(question)))}
        indexes[-1] = -1
        return np.array([indexes.get(int(self._stems[token]), -1) for token in ids], dtype=np.int64)


class _MessageTokens:
    """The tokens of a message, whose first is number `base` of the conversation, and their places in its text."""

    def __init__(self, encoding: Encoding, text: str, base: int, num_lead_chars: int) -> None:
        self.base, self.ids, self._num_lead_chars = base, encoding.ids, num_lead_chars
        starts = [a for a, _ in encoding.offsets]
        self._token_of_char = np.searchsorted(np.array(starts or [0]), np.arange(len(text) + 1), side="right") - 1
        self.starts = [a + (text[a : a + 1] in {" ", "\n"} and b - a > 1) for a, b in encoding.offsets]

    def at(self, character: int) -> int:
        """Return the position in the conversation of the token at a character, counted from the end of the lead."""
        return self.base + int(self._token_of_char[character + self._num_lead_chars])


def encode(tokenizer: Tokenizer, messages: Sequence[Message], stem_index: StemIndex) -> LabeledTokens:
    return _Encoder(tokenizer, messages, stem_index).encode()


class _Encoder:
    """Encodes one conversation: the tokens first, then the labels message by message."""

    def __init__(self, tokenizer: Tokenizer, messages: Sequence[Message], stem_index: StemIndex) -> None:
        self._messages, self._stem_index = messages, stem_index
        newline = tokenizer.encode("\n").ids
        self._ids: list[int] = []
        self._tokens: list[_MessageTokens] = []
        self._message_starts: list[int] = []
        for message in messages:
            self._message_starts.append(len(self._ids))
            self._ids += [_role_id(message.role), *newline]
            text = message.lead + message.text
            tokens = _MessageTokens(tokenizer.encode(text), text, len(self._ids), len(message.lead))
            self._tokens.append(tokens)
            self._ids += [*tokens.ids, END, *newline]
        self._is_answer = np.zeros(len(self._ids), dtype=bool)
        self._labels = {name: np.full(len(self._ids), -1, dtype=np.int64) for name in POSITION_LABELS}

    def encode(self) -> LabeledTokens:
        question = (-1, -1)
        for i, (message, tokens) in enumerate(zip(self._messages, self._tokens, strict=True)):
            self._label_sources(message, tokens)
            if message.role == "user":
                question = _question_span(message, tokens)
            if message.role == "assistant":
                self._label_answer(i, question)
        return LabeledTokens(np.array(self._ids, dtype=np.int64), self._is_answer, **self._labels)

    def _label_sources(self, message: Message, tokens: _MessageTokens) -> None:
        labels = self._labels
        for sentence in message.sentences:
            first, last = tokens.at(sentence.start), tokens.at(sentence.end - 1)
            span = slice(first, last + 1)
            labels["sentence_start"][span] = first
            labels["source_number"][span] = tokens.at(sentence.number)
            labels["source_mark"][span] = tokens.at(sentence.number - 1)
            if message.lead:
                start = tokens.at(len(QUESTION_PREFIX) - len(message.lead))
                matches = self._stem_index.matches(self._ids[start : tokens.at(0)], self._ids[span])
                labels["lead_start"][span] = tokens.base
                labels["matching_token"][span] = np.where(matches < 0, -1, matches + start)
                labels["is_relevant"][last] = 0
        if message.lead:
            labels["source_mark"][tokens.base : tokens.at(0)] = tokens.base

    def _label_answer(self, index: int, question: tuple[int, int]) -> None:
        labels, message, tokens = self._labels, self._messages[index], self._tokens[index]
        end = tokens.base + len(tokens.ids)
        self._is_answer[tokens.base : end + 1] = True
        preceding = slice(tokens.base - 1, end)
        labels["question_start"][preceding], labels["question_end"][preceding] = question
        if message.is_refusal:
            labels["selected_sentence"][tokens.base - 1] = self._message_starts[index]
        for quote in message.quotes:
            source = self._tokens[quote.message]
            for k, start in enumerate(tokens.starts):
                if quote.start <= start < quote.end:
                    labels["copied_token"][tokens.base + k - 1] = source.at(quote.source + start - quote.start)
                    labels["selected_sentence"][tokens.base + k - 1] = source.at(quote.last)
            if quote.message == index - 1 and self._messages[index - 1].lead:
                labels["is_relevant"][source.at(quote.last)] = 1


def _question_span(message: Message, tokens: _MessageTokens) -> tuple[int, int]:
    """Return the positions of the first and the last token of a message's question; -1 without one."""
    start, end = message.question
    return (tokens.at(start), tokens.at(max(end - 1, 0))) if end else (-1, -1)
