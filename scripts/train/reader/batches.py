"""Batches of encoded conversations of about the same length."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from reader.examples import Examples
from reader.tokens import PAD, LabeledTokens, StemIndex, encode

_POOL_SIZE = 48  # conversations that are sorted by length before they are divided into batches


class Batch:
    """The fields of `LabeledTokens` as tensors [rows, tokens]; labels of the padding are -1."""

    def __init__(self, rows: Sequence[LabeledTokens]) -> None:
        size = max(len(row.ids) for row in rows)

        def padded(name: str, fill: int) -> Tensor:
            values = np.full((len(rows), size), fill, dtype=np.int64)
            for target, row in zip(values, rows, strict=True):
                target[: len(row.ids)] = getattr(row, name)
            return torch.from_numpy(values)

        self.ids = padded("ids", PAD)
        self.is_answer = padded("is_answer", 0).bool()
        self.is_text = padded("ids", -1) >= 0
        self.sentence_start = padded("sentence_start", -1)
        self.source_number = padded("source_number", -1)
        self.source_mark = padded("source_mark", -1)
        self.copied_token = padded("copied_token", -1)
        self.selected_sentence = padded("selected_sentence", -1)
        self.question_start, self.question_end = padded("question_start", -1), padded("question_end", -1)
        self.lead_start = padded("lead_start", -1)
        self.matching_token = padded("matching_token", -1)
        self.is_relevant = padded("is_relevant", -1)

    def answers(self) -> list[list[slice]]:
        """Return the spans of the answers of each row, with the token that ends each."""
        spans = []
        for row in self.is_answer.numpy():
            edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
            spans.append([slice(int(a), int(b)) for a, b in edges.reshape(-1, 2)])
        return spans


def batches(examples: Examples, tokenizer: Tokenizer, num_tokens: int, max_tokens: int) -> Iterator[Batch]:
    """Yield batches without end, of about `num_tokens` tokens, from conversations of at most `max_tokens`."""
    rng = np.random.default_rng(0)
    stem_index = StemIndex(tokenizer)
    while True:
        pool = sorted(_pool(examples, tokenizer, stem_index, max_tokens), key=lambda each: len(each.ids))
        groups, group = list[list[LabeledTokens]](), list[LabeledTokens]()
        for each in pool:
            if group and (len(group) + 1) * len(each.ids) > num_tokens:
                groups.append(group)
                group = []
            group.append(each)
        groups.append(group)
        for i in rng.permutation(len(groups)):
            yield Batch(groups[i])


def _pool(examples: Examples, tokenizer: Tokenizer, stem_index: StemIndex, max_tokens: int) -> Iterator[LabeledTokens]:
    num_yielded = 0
    while num_yielded < _POOL_SIZE:
        tokens = encode(tokenizer, examples.next(), stem_index)
        if len(tokens.ids) <= max_tokens:
            num_yielded += 1
            yield tokens
