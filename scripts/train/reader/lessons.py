"""What the heads of the network are shown of a batch, and the batches themselves."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from reader.examples import Examples
from reader.network import Look, Shape
from reader.tokens import PAD, Encoded, Kinship, encode

_POOL = 48  # conversations that are sorted by length before they are cut into batches
_SHOWN = 40  # queries of a row that each head is taught by
_UNLIKE = 0.06  # of the tokens like nothing in the question, how many are shown beside those that are


class Batch:
    """Rows of about the same length: each field of `Encoded` as [rows, tokens]."""

    def __init__(self, encoded: Sequence[Encoded]) -> None:
        size = max(len(each.ids) for each in encoded)

        def rows(name: str, fill: int) -> Tensor:
            padded = np.full((len(encoded), size), fill, dtype=np.int64)
            for row, each in zip(padded, encoded, strict=True):
                row[: len(each.ids)] = getattr(each, name)
            return torch.from_numpy(padded)

        self.ids = rows("ids", PAD)
        self.is_answer = rows("is_answer", 0).bool()
        self.is_text = rows("ids", -1) >= 0
        self.start, self.number = rows("start", -1), rows("number", -1)
        self.mark = rows("mark", -1)
        self.copied, self.chosen = rows("copied", -1), rows("chosen", -1)
        self.asked, self.asked_end = rows("asked", -1), rows("asked_end", -1)
        self.lead, self.like, self.right = rows("lead", -1), rows("like", -1), rows("right", -1)

    def answers(self) -> list[list[slice]]:
        """Of each row, where its answers stand, with the token that ends them."""
        found = []
        for row in self.is_answer.numpy():
            edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
            found.append([slice(int(a), int(b)) for a, b in edges.reshape(-1, 2)])
        return found


def batches(examples: Examples, tokenizer: Tokenizer, num_tokens: int, longest: int) -> Iterator[Batch]:
    """Endless; of about `num_tokens` tokens each, conversations of at most `longest`."""
    rng = np.random.default_rng(0)
    kinship = Kinship(tokenizer)
    while True:
        pool = sorted(_encoded(examples, tokenizer, kinship, longest), key=lambda each: len(each.ids))
        cut, batch = list[list[Encoded]](), list[Encoded]()
        for each in pool:
            if batch and (len(batch) + 1) * len(each.ids) > num_tokens:
                cut.append(batch)
                batch = []
            batch.append(each)
        cut.append(batch)
        for i in rng.permutation(len(cut)):
            yield Batch(cut[i])


def _encoded(examples: Examples, tokenizer: Tokenizer, kinship: Kinship, longest: int) -> Iterator[Encoded]:
    made = 0
    while made < _POOL:
        each = encode(tokenizer, examples.next(), kinship)
        if len(each.ids) <= longest:
            made += 1
            yield each


def looks(batch: Batch, telling: Tensor, shape: Shape, *, all_of_them: bool) -> list[Look]:
    """What the heads are taught by this batch; later on only choosing and copying."""
    position = torch.arange(batch.ids.size(1))
    says = telling[batch.ids]
    taught: list[Look] = []

    def teach(
        lesson: str,
        layer: int,
        head: int,
        asks: Tensor,
        first: Tensor,
        last: Tensor,
        among: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> None:
        """The queries of `asks` are to look at the positions from `first` to `last`, those of `among`, and at the one
        `beside`."""
        if not asks.any():
            return
        query = torch.multinomial(asks.float() + 1e-9, min(_SHOWN, asks.size(1)))

        def of(places: Tensor) -> Tensor:
            return places.gather(1, query).unsqueeze(-1)

        allowed = (position >= of(first)) & (position <= of(last))
        if among is not None:
            allowed &= among.unsqueeze(1)
        if beside is not None:
            allowed |= position == of(beside)
        taught.append(Look(lesson, layer, head, query, (allowed & of(asks)).float()))

    choosing, copying = batch.chosen >= 0, batch.copied >= 0
    begins = ~batch.is_answer
    choice, copies = shape.layers - 3, shape.layers - 2
    teach("goes on", choice, 0, choosing & batch.is_answer, batch.chosen, batch.chosen)
    teach("chooses", choice, 1, choosing & begins, batch.chosen, batch.chosen)
    for head in range(shape.heads):
        teach("copies", copies, head, copying, batch.copied, batch.copied)
        teach("begins", copies, head, copying & begins, batch.copied, batch.copied)
    if not all_of_them:
        return taught
    here = position.expand_as(batch.ids)
    for back in (1, 2, 3):
        teach("back", 0, back - 1, batch.is_text & (here >= back), here - back, here - back)
    teach("mark", 0, 3, batch.mark >= 0, batch.mark, batch.mark)
    in_source = batch.start >= 0
    teach("start", 1, 0, in_source, batch.start, batch.start)
    teach("number", 1, 1, in_source, batch.number, batch.number)
    led, is_liked = batch.lead >= 0, batch.like >= 0
    is_last = in_source & (torch.roll(batch.start, -1, 1) != batch.start)
    place = torch.where(is_liked, batch.like, batch.lead)  # the question's beginning, for what is nothing like it
    for head in (2, 3):
        teach("like", 1, head, is_liked | (led & (torch.rand(led.shape) < _UNLIKE)), place, place)
    teach("gathers", 2, 0, is_last & led, batch.start, here, is_liked, batch.lead)  # more is like it, less is beside
    teach("asked", 2, 1, (batch.asked >= 0) & choosing, batch.asked, batch.asked_end, says)
    return taught
