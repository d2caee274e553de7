"""A small decoder of the Llama family, in which some heads are trained by attention supervision.

From the loss on answers alone, a network of this size learns to copy only after millions of tokens, and does not learn
to select a sentence. Therefore the question stands in front of the sources too, and heads are trained one after the
other: each token of a source attends to the matching token of the question; a sentence's last token gathers the
matches of the sentence, and an auxiliary classifier, used in training only, predicts from it whether the sentence
answers; a selection head attends to the answering sentence, and the copy heads attend to the next token to write. Each
of these has a target for its attention (Deshpande and Narasimhan, "Guiding attention for self-supervised learning with
transformers", 2020); all other weights are trained by the loss on the answers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-5
_COPY_SCALE = 0.5  # initial weight of what the copy layer attends to, relative to the residual stream
_SLOWEST = 1e-3  # radians a token

State = Mapping[str, Tensor]


class Shape(NamedTuple):
    layers: int
    width: int
    heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context: int = 2048

    @property
    def embedding_scale(self) -> float:
        """The factor of the input embeddings relative to the output embeddings, which are the same matrix."""
        return 4.0 * math.sqrt(self.width)


SHAPES = {
    "tiny": Shape(6, 64, 4, 32, 64, 512),
    "cpu": Shape(6, 256, 4, 64, 384, 8192),
    "gpu": Shape(10, 512, 8, 64, 1024, 8192),
}


def rope_frequencies(shape: Shape) -> Tensor:
    """Return the rotary frequency of each pair of a head's dimensions, in radians a token: [head_size / 2].

    One half of the pairs rotates and encodes positions at every distance; the other half does not, so it compares
    contents whatever the distance. When all pairs rotate, as is usual, selection fails beyond 400 tokens.
    """
    num_rotating = shape.head_size // 4
    rotating = _SLOWEST ** (torch.arange(num_rotating) / (num_rotating - 1))
    return torch.cat((rotating, torch.zeros(num_rotating)))


class AttentionTarget(NamedTuple):
    """The positions that one head is trained to attend to: `allowed` for each of `queries` ([rows, n] positions).

    `allowed` is [rows, n, tokens], 1 or 0; a query without allowed positions does not count. A head may have several
    targets.
    """

    name: str
    layer: int
    head: int
    queries: Tensor
    allowed: Tensor


def attention_loss(q: Tensor, k: Tensor, target: AttentionTarget) -> Tensor:
    """Return the cross-entropy of a head's attention and its target, in nats, averaged over the queries."""
    at = target.queries.unsqueeze(-1).expand(-1, -1, q.size(-1))
    scores = (torch.gather(q, 1, at) @ k.transpose(1, 2)).float() / q.size(-1) ** 0.5
    is_later = torch.arange(k.size(1)).view(1, 1, -1) > target.queries.unsqueeze(-1)
    log_probabilities = scores.masked_fill(is_later, -1e9).log_softmax(-1)
    num_allowed = target.allowed.sum(-1)
    losses = -(log_probabilities * target.allowed).sum(-1) / num_allowed.clamp(min=1)
    return losses.sum() / (num_allowed > 0).sum().clamp(min=1)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions to adjacent pairs, as llama.cpp does for this architecture. `rotation`: cos and sin."""
    cos, sin = rotation
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.heads * shape.head_size
        self.shape = shape
        self.attn_norm = nn.Parameter(torch.ones(shape.width))
        self.ffn_norm = nn.Parameter(torch.ones(shape.width))
        self.attn_q = nn.Linear(shape.width, inner, bias=False)
        self.attn_k = nn.Linear(shape.width, inner, bias=False)
        self.attn_v = nn.Linear(shape.width, inner, bias=False)
        self.attn_output = nn.Linear(inner, shape.width, bias=False)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)
        nn.init.zeros_(self.attn_output.weight)
        nn.init.zeros_(self.ffn_down.weight)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], targets: Sequence[AttentionTarget]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the next hidden states, and the attention loss of each target."""
        rows, size, _ = x.shape
        h = F.rms_norm(x, (x.size(-1),), self.attn_norm, _EPSILON)
        q, k, v = (
            f(h).view(rows, size, self.shape.heads, self.shape.head_size).transpose(1, 2)
            for f in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = rotate(q, rotation).to(v.dtype), rotate(k, rotation).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(y.transpose(1, 2).reshape(rows, size, -1))
        h = F.rms_norm(x, (x.size(-1),), self.ffn_norm, _EPSILON)
        x = x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x, [attention_loss(q[:, target.head], k[:, target.head], target) for target in targets]


class NetworkOutput(NamedTuple):
    """The last hidden states, those below the selection layer, and the attention losses by target and head."""

    hidden: Tensor
    sentence_states: Tensor
    attention_losses: dict[str, Tensor]


class Network(nn.Module):
    """The decoder, with tied embeddings. Parameters have the names of llama.cpp's tensors.

    Input embeddings are four times as large as a norm would make them (Gemma's are as large), else the layers outweigh
    a token's identity before it is compared. Embeddings of tokens that differ in a capital, a space or an ending are
    initialized alike, and the copy layer is initialized to write what it attends to.
    """

    def __init__(self, shape: Shape, features: Sequence[Sequence[str]] = ()) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        with torch.no_grad():
            self.token_embd.weight.copy_(
                feature_embeddings(features, shape)
                if features
                else torch.randn(shape.vocabulary, shape.width) / shape.width**0.5
            )
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        copy_layer = self.blk[shape.layers - 2]
        nn.init.orthogonal_(copy_layer.attn_v.weight)
        with torch.no_grad():
            copy_layer.attn_output.weight.copy_(_COPY_SCALE * copy_layer.attn_v.weight.T)
        self.output_norm = nn.Parameter(torch.ones(shape.width))
        angle = torch.outer(torch.arange(shape.context).float(), rope_frequencies(shape))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids: Tensor, targets: Sequence[AttentionTarget] = ()) -> NetworkOutput:
        x = self.token_embd(ids) * self.shape.embedding_scale
        rotation = self.cos[: ids.size(1)], self.sin[: ids.size(1)]
        attention_losses: dict[str, Tensor] = {}
        sentence_states = x
        for layer, block in enumerate(self.blk):
            of_layer = [target for target in targets if target.layer == layer]
            x, losses = block(x, rotation, of_layer)
            names = (f"{target.name}{target.head}" for target in of_layer)
            attention_losses |= dict(zip(names, losses, strict=True))
            if layer == self.shape.layers - 4:
                sentence_states = x
        hidden = F.rms_norm(x, (x.size(-1),), self.output_norm, _EPSILON)
        return NetworkOutput(hidden, sentence_states, attention_losses)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.token_embd.weight)


class RelevanceClassifier(nn.Module):
    """Predicts from the state of a sentence's last token whether the sentence answers the leading question.

    An auxiliary task of the training: it makes these states hold what the selection layer needs.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.relevance = nn.Linear(width, 1)
        self.none = nn.Parameter(torch.zeros(1))

    def forward(self, sentence_states: Tensor, lead_start: Tensor, is_relevant: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy in nats of choosing among a turn's sentences or none of them, and the accuracy.

        `lead_start`: where the turn of each token begins; `is_relevant`: 1 or 0 at the ends of sentences, else -1.
        """
        at = is_relevant >= 0
        turns = (lead_start + torch.arange(len(lead_start)).unsqueeze(1) * lead_start.size(1))[at]
        turns, index = turns.unique(return_inverse=True)
        states = sentence_states[at].float()
        scores = self.relevance(F.rms_norm(states, (sentence_states.size(-1),))).squeeze(-1)
        is_right = is_relevant[at] > 0
        none = self.none.expand(len(turns))
        total = _grouped_logsumexp(scores, index, none)
        right_scores = torch.where(is_right, scores, torch.full_like(scores, -1e4))
        is_answered = torch.zeros(len(turns)).index_add(0, index, is_right.float()) > 0
        right_none = torch.where(is_answered, torch.full_like(none, -1e4), none)
        right = _grouped_logsumexp(right_scores, index, right_none)
        lowest = torch.full((len(turns),), -1e9)
        best = lowest.scatter_reduce(0, index, scores.detach(), "amax")
        best_right = lowest.scatter_reduce(0, index, right_scores.detach(), "amax")
        is_correct = torch.where(is_answered, (best_right >= best) & (best > none), best <= none)
        return (total - right).mean(), is_correct.float().mean()


def _grouped_logsumexp(scores: Tensor, index: Tensor, none: Tensor) -> Tensor:
    """Return the log-sum-exp of the scores of each group and the group's `none`."""
    top = none.detach().clone().scatter_reduce(0, index, scores.detach(), "amax")
    total = (none - top).exp().index_add(0, index, (scores - top[index]).exp())
    return total.log() + top


def feature_embeddings(features: Sequence[Sequence[str]], shape: Shape) -> Tensor:
    """Return initial embeddings of length one, as sums of a part of each token's own and parts of its features.

    One part is common to all tokens, for heads that attend by position alone. The random numbers are always the same.
    """
    generator = torch.Generator().manual_seed(1)

    def parts(names: Sequence[str]) -> Tensor:
        index = {name: i for i, name in enumerate(dict.fromkeys(names))}
        vectors = torch.randn(len(index), shape.width, generator=generator)
        return vectors[torch.from_numpy(np.array([index[name] for name in names]))]

    own = torch.randn(len(features), shape.width, generator=generator)
    spelling, stem, form = map(parts, zip(*features, strict=True))
    common = torch.randn(shape.width, generator=generator)
    return F.normalize(0.7 * (own + spelling + stem) + 0.4 * (form + common), dim=-1)
