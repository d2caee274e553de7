"""Attention supervision: the positions that some heads are trained to attend to, derived from a batch's labels."""

import torch
from torch import Tensor

from reader.batches import Batch
from reader.network import AttentionTarget, Shape

_MAX_QUERIES = 40  # of a row, drawn for each target
_UNMATCHED_SHARE = 0.06  # of the tokens that match no token of the question, how many are supervised too


def attention_targets(batch: Batch, content_tokens: Tensor, shape: Shape, *, all_heads: bool) -> list[AttentionTarget]:
    """Return the targets of a batch; without `all_heads`, only those of the selection and copy heads.

    `content_tokens`: whether each token of the vocabulary may belong to a content word.
    """
    targets = _Targets(batch)
    _supervise_copying(targets, batch, shape)
    if all_heads:
        _supervise_positions(targets, batch)
        _supervise_matching(targets, batch, content_tokens)
    return targets.targets


class _Targets:
    """Collects targets for the heads of one batch."""

    def __init__(self, batch: Batch) -> None:
        self.targets: list[AttentionTarget] = []
        self.position = torch.arange(batch.ids.size(1))

    def add(
        self,
        name: str,
        layer: int,
        head: int,
        is_query: Tensor,
        first: Tensor,
        last: Tensor,
        among: Tensor | None = None,
        also: Tensor | None = None,
    ) -> None:
        """Train a head's queries, those of `is_query`, to attend to the positions from `first` to `last`.

        With `among`, only to those of them that it contains; with `also`, to that position as well. All are
        [rows, tokens].
        """
        if not is_query.any():
            return
        queries = torch.multinomial(is_query.float() + 1e-9, min(_MAX_QUERIES, is_query.size(1)))

        def at_queries(values: Tensor) -> Tensor:
            return values.gather(1, queries).unsqueeze(-1)

        allowed = (self.position >= at_queries(first)) & (self.position <= at_queries(last))
        if among is not None:
            allowed &= among.unsqueeze(1)
        if also is not None:
            allowed |= self.position == at_queries(also)
        self.targets.append(AttentionTarget(name, layer, head, queries, (allowed & at_queries(is_query)).float()))


def _supervise_copying(targets: _Targets, batch: Batch, shape: Shape) -> None:
    """Select the sentence in the third layer from the end, copy its tokens in the last but one."""
    selects, copies = batch.selected_sentence >= 0, batch.copied_token >= 0
    is_first = ~batch.is_answer  # the query that precedes the first token of an answer
    layer, sentence, source = shape.layers - 3, batch.selected_sentence, batch.copied_token
    targets.add("continue_sentence", layer, 0, selects & batch.is_answer, sentence, sentence)
    targets.add("select_sentence", layer, 1, selects & is_first, sentence, sentence)
    for head in range(shape.heads):
        targets.add("copy", layer + 1, head, copies, source, source)
        targets.add("copy_first", layer + 1, head, copies & is_first, source, source)


def _supervise_positions(targets: _Targets, batch: Batch) -> None:
    """Attend in layer 0 to the preceding tokens and the source's mark, in layer 1 to the sentence's beginning."""
    position = targets.position.expand_as(batch.ids)
    for back in (1, 2, 3):
        targets.add("previous", 0, back - 1, batch.is_text & (position >= back), position - back, position - back)
    targets.add("source_mark", 0, 3, batch.source_mark >= 0, batch.source_mark, batch.source_mark)
    in_source = batch.sentence_start >= 0
    targets.add("sentence_start", 1, 0, in_source, batch.sentence_start, batch.sentence_start)
    targets.add("source_number", 1, 1, in_source, batch.source_number, batch.source_number)


def _supervise_matching(targets: _Targets, batch: Batch, content_tokens: Tensor) -> None:
    """Match tokens with the leading question in layer 1, and gather the matches of a sentence in layer 2."""
    position = targets.position.expand_as(batch.ids)
    has_lead, is_match = batch.lead_start >= 0, batch.matching_token >= 0
    start = batch.sentence_start
    is_sentence_end = (start >= 0) & (torch.roll(start, -1, 1) != start)
    target = torch.where(is_match, batch.matching_token, batch.lead_start)  # tokens without a match attend to the lead
    for head in (2, 3):
        is_query = is_match | (has_lead & (torch.rand(has_lead.shape) < _UNMATCHED_SHARE))
        targets.add("match", 1, head, is_query, target, target)
    targets.add("gather_matches", 2, 0, is_sentence_end & has_lead, start, position, is_match, batch.lead_start)
    is_query = (batch.question_start >= 0) & (batch.selected_sentence >= 0)
    targets.add("question", 2, 1, is_query, batch.question_start, batch.question_end, content_tokens[batch.ids])
