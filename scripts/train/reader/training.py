"""The training itself: what is learned when, and checkpoints from which it goes on."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from reader.corpus import Corpus, Rarity
from reader.examples import Examples
from reader.lessons import Batch, batches, looks
from reader.network import SHAPES, Judge, Network, Shape
from reader.tokens import families, telling

_CHECKPOINT = "checkpoint.pt"
_SAVED_EVERY = 180.0  # seconds
_TOLD_EVERY = 20  # steps
_WARM_UP = 60  # steps
_VALIDATION_BATCHES = 6
_JUDGED = 0.5  # how much the judge's loss counts
_PROSE = 0.04  # of the tokens that are no answer, how many are learned too, lightly
_PROSE_WEIGHT = 0.1


class Course(NamedTuple):
    """How a training goes: `tokens` in all; `batch` tokens a step."""

    size: str
    tokens: int
    batch: int = 4096
    matrix_rate: float = 0.02
    other_rate: float = 5e-4


class Stage(NamedTuple):
    """What is learned at some share of the course."""

    level: float
    longest: int  # tokens of a conversation
    rate: float
    guidance: float
    all_heads: bool
    refusing: float


def stage(share: float) -> Stage:
    """At `share` of the course, from 0 to 1: short passages and every head shown first, then the real thing."""
    level = min(1.0, share / 0.25)
    longest = 320 if share < 0.05 else 640 if share < 0.15 else 1024 if share < 0.4 else 1536
    rate = max(0.03, min(1.0, 2 * (1 - share)))
    guidance = 1.0 if share < 0.2 else 0.5 if share < 0.7 else 0.2
    refusing = 0.03 + 0.12 * min(1.0, max(0.0, (share - 0.4) / 0.2))
    return Stage(level, longest, rate, guidance, share < 0.7, refusing)


class Training:
    """In `folder`: the tokenizer, the newest checkpoint and a log. Made anew, it goes on from there."""

    def __init__(self, course: Course, corpus: Corpus, tokenizer: Tokenizer, folder: Path, seed: int) -> None:
        self._course, self._folder, self._tokenizer = course, folder, tokenizer
        shape = SHAPES[course.size]._replace(vocabulary=tokenizer.get_vocab_size())
        torch.manual_seed(seed)
        self.network = Network(shape, families(tokenizer))
        self._shape: Shape = shape
        self._telling = torch.from_numpy(telling(tokenizer))
        matrices = [p for p in self.network.blk.parameters() if p.ndim == 2]
        others = [p for p in self.network.parameters() if all(p is not m for m in matrices)]
        self.judge = Judge(shape.width)
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Muon(matrices, lr=course.matrix_rate, momentum=0.95, weight_decay=0.1), course.matrix_rate),
            (torch.optim.AdamW(others, lr=course.other_rate, betas=(0.9, 0.95), weight_decay=0.0), course.other_rate),
            (torch.optim.AdamW(self.judge.parameters(), lr=course.other_rate, weight_decay=0.0), course.other_rate),
        ]
        self.seen, self.steps, self.seconds = 0, 0, 0.0
        self._resume()
        rarity = Rarity(corpus.pages)
        self._examples = Examples(corpus, seed + self.steps, rarity)
        self._held_out = Examples(corpus, 7, rarity, held_out=True)

    @property
    def share(self) -> float:
        return min(1.0, self.seen / self._course.tokens)

    def run(self, minutes: float) -> None:
        """Until the course is done, or for so long."""
        begun = saved = time.monotonic()
        means: dict[str, float] = {}
        longest = 0
        source: Iterator[Batch] = iter(())
        while self.share < 1 and time.monotonic() - begun < minutes * 60:
            then = time.monotonic()
            now = stage(self.share)
            self._examples.level, self._examples.refusing = now.level, now.refusing
            if now.longest != longest:
                longest = now.longest
                source = batches(self._examples, self._tokenizer, self._course.batch, longest)
            for name, value in self._step(next(source), now).items():
                means[name] = value if name not in means else 0.95 * means[name] + 0.05 * value
            self.seconds += time.monotonic() - then
            if self.steps % _TOLD_EVERY == 0:
                self._log(
                    step=self.steps,
                    seconds=round(self.seconds),
                    tokens=self.seen,
                    level=round(now.level, 2),
                    **{k: round(v, 3) for k, v in sorted(means.items())},
                )
            if time.monotonic() - saved > _SAVED_EVERY:
                self.save()
                self._log(**self.validate())
                saved = time.monotonic()
        self.save()
        self._log(**self.validate())

    def _step(self, batch: Batch, now: Stage) -> dict[str, float]:
        rate = now.rate * min(1.0, (self.steps + 1) / _WARM_UP)
        for optimizer, base in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        shown = looks(batch, self._telling, self._shape, all_of_them=now.all_heads)
        with torch.autocast("cpu", torch.bfloat16):
            hidden, judged, astray = self.network(batch.ids, shown)
            wanted = batch.ids[:, 1:]
            answers = batch.is_answer[:, 1:]
            prose = (torch.rand(answers.shape) < _PROSE) & ~answers & batch.is_text[:, 1:]
            taken = answers | prose
            logits = self.network.logits(hidden[:, :-1][taken]).float()
        each = F.cross_entropy(logits, wanted[taken], reduction="none")
        is_answer = answers[taken]
        first = (batch.chosen[:, :-1] >= 0) & (~batch.is_answer[:, :-1])
        begins = first[taken]  # the first token of an answer chooses, and counts for as much as all that are copied
        copied = (batch.copied[:, :-1] >= 0)[taken] & ~begins
        told_itself = is_answer & ~begins & ~copied  # where a quote ends, and the answer
        kinds = ((begins, 1.0), (copied, 1.0), (told_itself, 1.0), (~is_answer, _PROSE_WEIGHT))
        total = torch.stack([weight * _mean(each, kind) for kind, weight in kinds]).sum()
        if astray:
            total = total + now.guidance * torch.stack(list(astray.values())).sum()
        told = {name: float(value.detach()) for name, value in astray.items()}
        if (batch.right >= 0).any():
            mistaken, found = self.judge(judged, batch.lead, batch.right)
            total, told["judged"] = total + _JUDGED * mistaken, float(found)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer, _ in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        self.seen += int(batch.is_text.sum())
        right = (logits.argmax(-1) == wanted[taken]).float()
        return told | {
            "answer": float(_mean(each, is_answer).detach()),
            "itself": float(_mean(each, told_itself).detach()),
            "right": float(_mean(right, is_answer)),
            "first": float(_mean(right, begins)),
        }

    def validate(self) -> dict[str, float]:
        """Of the answers of held-out conversations: how many are word for word what greedy decoding says, how many
        begin so, and how many of their tokens are right."""
        now = stage(self.share)
        self._held_out.level, self._held_out.refusing = now.level, now.refusing
        source = batches(self._held_out, self._tokenizer, self._course.batch, now.longest)
        counts = Counter[str]()
        for batch in islice(source, _VALIDATION_BATCHES):
            with torch.no_grad():
                said = self.network.logits(self.network(batch.ids).hidden).argmax(-1)
            for row, answers in enumerate(batch.answers()):
                for answer in answers:
                    before = slice(answer.start - 1, answer.stop - 1)
                    right = said[row, before] == batch.ids[row, answer]
                    counts["answers"] += 1
                    counts["exact"] += bool(right.all())
                    counts["begun"] += bool(right[:4].all())
                    counts["tokens"] += len(right)
                    counts["right"] += int(right.sum())
        total = max(1, counts["answers"])
        return {
            "exact": round(counts["exact"] / total, 3),
            "begun": round(counts["begun"] / total, 3),
            "tokens_right": round(counts["right"] / max(1, counts["tokens"]), 3),
            "of": total,
        }

    def save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "judge": self.judge.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer, _ in self._optimizers],
            "course": self._course._asdict(),
            "shape": self._shape._asdict(),
            "seen": self.seen,
            "steps": self.steps,
            "seconds": self.seconds,
        }
        fresh = self._folder / f"{_CHECKPOINT}.new"
        torch.save(state, fresh)
        fresh.replace(self._folder / _CHECKPOINT)

    def _resume(self) -> None:
        file = self._folder / _CHECKPOINT
        if not file.exists():
            return
        state = read_checkpoint(file)
        if state["shape"] != self._shape._asdict():
            raise SystemExit(f"{file} is of another shape, {state['shape']}: choose another folder")
        self.network.load_state_dict(state["network"])
        self.judge.load_state_dict(state["judge"])
        for (optimizer, _), saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.seen, self.steps, self.seconds = state["seen"], state["steps"], state["seconds"]
        self._log(resumed=self.steps, tokens=self.seen)

    def _log(self, **values: Any) -> None:
        line = json.dumps(values, ensure_ascii=False)
        print(line, flush=True)
        with (self._folder / "losses.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def read_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint of this program's own; nothing but tensors and numbers is read from it."""
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
