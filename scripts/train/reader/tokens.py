"""Conversations as tokens, with what the network is shown of them while it learns: where each answer comes from."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers

from reader.corpus import STOP, stem
from reader.examples import LEADING, Message

PAD, END = 0, 1
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_SPACE = "Ġ"  # how byte-level BPE writes one


class Encoded(NamedTuple):
    """All of shape [tokens]; positions are -1 where there is none. Of a token of a source: `start` of its sentence,
    its source's `number`, and `mark`, the bracket before that; of a question that leads, `mark` is its message's
    beginning. Of a token after which an answer goes on: `copied`, where the next token stands in a source; `chosen`,
    where the sentence that is quoted ends, or the turn's beginning if the answer refuses; `asked`, where the question
    begins, and `asked_end`. Of a token of a source whose question leads: `lead`, where that begins; `like`, where in it
    a word of the same stem stands; and, at a sentence's last token, `right`: 1 if the answer quotes it, else 0."""

    ids: np.ndarray
    is_answer: np.ndarray
    start: np.ndarray
    number: np.ndarray
    mark: np.ndarray
    copied: np.ndarray
    chosen: np.ndarray
    asked: np.ndarray
    asked_end: np.ndarray
    lead: np.ndarray
    like: np.ndarray
    right: np.ndarray


POINTERS = Encoded._fields[2:]


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Byte-level BPE as GPT-2's, which llama.cpp cuts alike. Every number to 99 is one token."""
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


def written(token: str) -> str:
    """A token's letters without the space before them."""
    return token.lstrip(_SPACE)


def telling(tokenizer: Tokenizer) -> np.ndarray:
    """Of each token of the vocabulary, whether it belongs to a word that says something: [size]."""
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return np.array(
        [
            token not in SPECIAL and written(token).lower() not in STOP and any(c.isalnum() for c in written(token))
            for token in tokens
        ]
    )


class Family(NamedTuple):
    """What a token has in common with others: its letters in lower case; what its inflections share; how it is written,
    with a space before it or not, and with a capital or not."""

    spelled: str
    stemmed: str
    form: str


def families(tokenizer: Tokenizer) -> list[Family]:
    """Of each token of the vocabulary."""
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return [
        Family(written(token).lower(), stem(written(token)), f"{token[:1] == _SPACE} {written(token)[:1].isupper()}")
        for token in tokens
    ]


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[tuple[str, str]]) -> list[int]:
    """The conversation as the chat template writes it, with the beginning of an answer."""
    ids: list[int] = []
    newline = tokenizer.encode("\n").ids
    for role, text in messages:
        ids += [tokenizer.token_to_id(f"<|{role}|>"), *newline, *tokenizer.encode(text).ids, END, *newline]
    return [*ids, tokenizer.token_to_id("<|assistant|>"), *newline]


class _Tokens:
    """Which token of a message stands at a character of its text, which `lead` characters stand before."""

    def __init__(self, encoding: Encoding, text: str, base: int, lead: int) -> None:
        self.base, self.ids, self._lead = base, encoding.ids, lead
        starts = [a for a, _ in encoding.offsets]
        self._at = np.searchsorted(np.array(starts or [0]), np.arange(len(text) + 1), side="right") - 1
        self._text = text
        self.starts = [a + (text[a : a + 1] in {" ", "\n"} and b - a > 1) for a, b in encoding.offsets]

    def at(self, character: int) -> int:
        return self.base + int(self._at[character + self._lead])


class Kinship:
    """Which tokens of the vocabulary belong to words of one stem that say something."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        stems = [family.stemmed for family in families(tokenizer)]
        index = {name: i for i, name in enumerate(dict.fromkeys(stems))}
        self._of = np.where(telling(tokenizer), np.array([index[name] for name in stems]), -1)

    def like(self, question: Sequence[int], ids: Sequence[int]) -> np.ndarray:
        """For each of `ids`, the first place in the question where its like stands; -1 where there is none."""
        places = {int(self._of[token]): i for i, token in reversed(list(enumerate(question)))}
        places[-1] = -1
        return np.array([places.get(int(self._of[token]), -1) for token in ids], dtype=np.int64)


def encode(tokenizer: Tokenizer, messages: Sequence[Message], kinship: Kinship) -> Encoded:
    newline = tokenizer.encode("\n").ids
    ids: list[int] = []
    cuts: list[_Tokens] = []
    heads: list[int] = []
    for message in messages:
        heads.append(len(ids))
        ids += [tokenizer.token_to_id(f"<|{message.role}|>"), *newline]
        text = message.lead + message.text
        cut = _Tokens(tokenizer.encode(text), text, len(ids), len(message.lead))
        cuts.append(cut)
        ids += [*cut.ids, END, *newline]
    size = len(ids)
    is_answer = np.zeros(size, dtype=bool)
    pointers = {name: np.full(size, -1, dtype=np.int64) for name in POINTERS}
    asked = (-1, -1)
    for i, (message, cut) in enumerate(zip(messages, cuts, strict=True)):
        for sentence in message.sentences:
            first, last = cut.at(sentence.start), cut.at(sentence.end - 1)
            pointers["start"][first : last + 1] = first
            pointers["number"][first : last + 1] = cut.at(sentence.number)
            pointers["mark"][first : last + 1] = cut.at(sentence.number - 1)
            if message.lead:
                asked_first, told = cut.at(len(LEADING) - len(message.lead)), slice(first, last + 1)
                like = kinship.like(ids[asked_first : cut.at(0)], ids[told])
                pointers["lead"][told] = cut.base
                pointers["like"][told] = np.where(like < 0, -1, like + asked_first)
                pointers["right"][last] = 0
        if message.lead:
            pointers["mark"][cut.base : cut.at(0)] = cut.base
        if message.role == "user":
            asked = (
                (cut.at(message.question[0]), cut.at(max(message.question[1] - 1, 0)))
                if message.question[1]
                else (-1, -1)
            )
        if message.role != "assistant":
            continue
        end = cut.base + len(cut.ids)
        is_answer[cut.base : end + 1] = True
        before = slice(cut.base - 1, end)
        pointers["asked"][before], pointers["asked_end"][before] = asked
        if message.refuses:
            pointers["chosen"][cut.base - 1] = heads[i]
        for quote in message.quotes:
            source = cuts[quote.message]
            for k, start in enumerate(cut.starts):
                if quote.start <= start < quote.end:
                    pointers["copied"][cut.base + k - 1] = source.at(quote.source + start - quote.start)
                    pointers["chosen"][cut.base + k - 1] = source.at(quote.last)
            if quote.message == i - 1 and messages[i - 1].lead:
                pointers["right"][source.at(quote.last)] = 1
    return Encoded(np.array(ids, dtype=np.int64), is_answer, **pointers)
