"""A decoder of the Llama family, small, with the lessons that show some of its heads where to look.

Left to itself a network of this size finds copying after millions of tokens and choosing not at all. So the question
stands before the sources too, and each token of a source can look for its like in it; a sentence's last token gathers
how much of the sentence is like the question, and a judge, there for the training alone, asks it whether the sentence
answers; the answer begins where that is most so, and goes on with what stands next. One head of a layer is taught each
of these looks (Deshpande and Narasimhan, "Guiding attention for self-supervised learning with transformers", 2020); the
others, and what is made of it, are left to the loss on the answers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-5
_PASSED_ON = 0.5  # how strongly, beside what is there
_SLOWEST = 1e-3  # radians a token


class Shape(NamedTuple):
    layers: int
    width: int
    heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context: int = 2048

    @property
    def loudness(self) -> float:
        """How much larger the embeddings are where tokens come in than where they go out."""
        return 4.0 * self.width**0.5


SHAPES = {
    "tiny": Shape(6, 64, 4, 32, 64, 512),
    "cpu": Shape(6, 256, 4, 64, 384, 8192),
    "gpu": Shape(10, 512, 8, 64, 1024, 8192),
}


def frequencies(shape: Shape) -> Tensor:
    """How fast each pair of a head turns, in radians a token: [head_size / 2]. One half tells where tokens stand, from
    the next one to the other end; the other half stands still, and compares what they are however far apart they
    stand. When all turn, as is usual, choosing fails beyond 400 tokens."""
    turning = shape.head_size // 4
    return torch.cat((_SLOWEST ** (torch.arange(turning) / (turning - 1)), torch.zeros(turning)))


class Look(NamedTuple):
    """Of the queries `query` ([rows, n] positions) of one head, what they are to look at: `allowed`, [rows, n, tokens].
    A query that is to look at nothing counts for nothing. A head may have several lessons."""

    lesson: str
    layer: int
    head: int
    query: Tensor
    allowed: Tensor


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

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], looks: Sequence[Look]) -> tuple[Tensor, list[Tensor]]:
        rows, size, _ = x.shape
        h = F.rms_norm(x, (x.size(-1),), self.attn_norm, _EPSILON)
        q, k, v = (
            f(h).view(rows, size, self.shape.heads, self.shape.head_size).transpose(1, 2)
            for f in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = turned(q, turn).to(v.dtype), turned(k, turn).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(y.transpose(1, 2).reshape(rows, size, -1))
        h = F.rms_norm(x, (x.size(-1),), self.ffn_norm, _EPSILON)
        x = x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x, [astray(q[:, look.head], k[:, look.head], look) for look in looks]


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions on adjacent pairs, as llama.cpp has it for this family."""
    cos, sin = turn
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def astray(q: Tensor, k: Tensor, look: Look) -> Tensor:
    """How far one head's attention is from what it is shown: cross-entropy in nats, mean of the queries."""
    at = look.query.unsqueeze(-1).expand(-1, -1, q.size(-1))
    scores = (torch.gather(q, 1, at) @ k.transpose(1, 2)).float() / q.size(-1) ** 0.5
    later = torch.arange(k.size(1)).view(1, 1, -1) > look.query.unsqueeze(-1)
    logs = scores.masked_fill(later, -1e9).log_softmax(-1)
    count = look.allowed.sum(-1)
    each = -(logs * look.allowed).sum(-1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)


class Network(nn.Module):
    """Tied embeddings, which come in four times as strong as what a norm makes (Gemma's: as strong): otherwise the
    layers drown what a token is before it is compared. Tokens that differ in a capital, a space or an ending begin
    alike, so that words match; and the layer that copies begins by passing on what it looks at."""

    def __init__(self, shape: Shape, families: Sequence[Sequence[str]] = ()) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        with torch.no_grad():
            self.token_embd.weight.copy_(
                kindred(families, shape) if families else torch.randn(shape.vocabulary, shape.width) / shape.width**0.5
            )
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        copying = self.blk[shape.layers - 2]
        nn.init.orthogonal_(copying.attn_v.weight)
        with torch.no_grad():
            copying.attn_output.weight.copy_(_PASSED_ON * copying.attn_v.weight.T)
        self.output_norm = nn.Parameter(torch.ones(shape.width))
        angle = torch.outer(torch.arange(shape.context).float(), frequencies(shape))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids: Tensor, looks: Sequence[Look] = ()) -> "Seen":
        x = self.token_embd(ids) * self.shape.loudness
        turn = self.cos[: ids.size(1)], self.sin[: ids.size(1)]
        lost: dict[str, Tensor] = {}
        judged = x
        for layer, block in enumerate(self.blk):
            here = [look for look in looks if look.layer == layer]
            x, losses = block(x, turn, here)
            lost |= {f"{look.lesson}{look.head}": loss for look, loss in zip(here, losses, strict=True)}
            if layer == self.shape.layers - 4:
                judged = x
        return Seen(F.rms_norm(x, (x.size(-1),), self.output_norm, _EPSILON), judged, lost)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.token_embd.weight)


class Seen(NamedTuple):
    """The last hidden states; those before the layer that chooses; how far each taught head looks astray, by its lesson
    and number."""

    hidden: Tensor
    judged: Tensor
    astray: dict[str, Tensor]


class Judge(nn.Module):
    """Tells from a sentence's last token whether the sentence answers the question that leads. Only there to teach:
    what it needs to know, the layer that chooses finds there too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.relevance = nn.Linear(width, 1)
        self.none = nn.Parameter(torch.zeros(1))

    def forward(self, judged: Tensor, lead: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats of choosing among the sentences of each turn or none of them, and the share of turns
        whose choice is right. `lead`: where each token's turn begins; `right`: 1 or 0 at the ends of sentences."""
        at = right >= 0
        turns = (lead + torch.arange(len(lead)).unsqueeze(1) * lead.size(1))[at]
        turns, index = turns.unique(return_inverse=True)
        scores = self.relevance(F.rms_norm(judged[at].float(), (judged.size(-1),))).squeeze(-1)
        is_right = right[at] > 0
        none = self.none.expand(len(turns))
        total = _pooled(scores, index, none)
        wanted = torch.where(is_right, scores, torch.full_like(scores, -1e4))
        answered = torch.zeros(len(turns)).index_add(0, index, is_right.float()) > 0
        hit = _pooled(wanted, index, torch.where(answered, torch.full_like(none, -1e4), none))
        best = torch.full((len(turns),), -1e9).scatter_reduce(0, index, scores.detach(), "amax")
        best_right = torch.full((len(turns),), -1e9).scatter_reduce(0, index, wanted.detach(), "amax")
        found = torch.where(answered, (best_right >= best) & (best > none), best <= none)
        return (total - hit).mean(), found.float().mean()


def _pooled(scores: Tensor, index: Tensor, none: Tensor) -> Tensor:
    """The logarithm of the sum of the exponentials, of each group and its `none`."""
    top = none.detach().clone().scatter_reduce(0, index, scores.detach(), "amax")
    summed = (none - top).exp().index_add(0, index, (scores - top[index]).exp())
    return summed.log() + top


def kindred(families: Sequence[Sequence[str]], shape: Shape) -> Tensor:
    """Embeddings of length one, with parts that a token shares with those of its families. One part is common to all,
    which heads that look by place alone begin with."""
    generator = torch.Generator().manual_seed(1)

    def parts(names: Sequence[str]) -> Tensor:
        index = {name: i for i, name in enumerate(dict.fromkeys(names))}
        made = torch.randn(len(index), shape.width, generator=generator)
        return made[torch.from_numpy(np.array([index[name] for name in names]))]

    own = torch.randn(len(families), shape.width, generator=generator)
    spelled, stemmed, form = map(parts, zip(*families, strict=True))
    common = torch.randn(shape.width, generator=generator)
    return F.normalize(0.7 * (own + spelled + stemmed) + 0.4 * (form + common), dim=-1)


State = Mapping[str, Tensor]
