"""Trains the network by a curriculum, with checkpoints from which the training resumes."""

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

from reader.attention_supervision import attention_targets
from reader.batches import Batch, batches
from reader.corpus import Corpus, IdfWeights
from reader.examples import Examples
from reader.network import SHAPES, Network, RelevanceClassifier, Shape
from reader.tokens import content_token_mask, token_features

_CHECKPOINT = "checkpoint.pt"
_SAVE_INTERVAL_S = 180.0
_LOG_INTERVAL_STEPS = 20
_WARM_UP_STEPS = 60
_NUM_VALIDATION_BATCHES = 6
_VALIDATION_SEED = 7
_RELEVANCE_WEIGHT = 0.5  # of the relevance classifier's loss
_PROMPT_SHARE = 0.04  # of the prompts' tokens, how many are trained too
_PROMPT_WEIGHT = 0.1  # of their loss


class TrainingConfig(NamedTuple):
    """`tokens`: length of the whole training; `batch`: tokens of a step."""

    size: str
    tokens: int
    batch: int = 4096
    matrix_rate: float = 0.02
    other_rate: float = 5e-4


class CurriculumStage(NamedTuple):
    """The settings of the training at some point of the curriculum."""

    difficulty: float
    max_tokens: int  # of a conversation
    rate: float  # factor of the learning rates
    attention_weight: float  # of the attention losses
    all_heads: bool  # whether heads other than the selection and copy heads have targets
    refusal_share: float


def curriculum_stage(progress: float) -> CurriculumStage:
    """Return the stage at `progress` from 0 to 1: first short passages and targets for all heads."""
    difficulty = min(1.0, progress / 0.25)
    max_tokens = 320 if progress < 0.05 else 640 if progress < 0.15 else 1024 if progress < 0.4 else 1536
    rate = max(0.03, min(1.0, 2 * (1 - progress)))
    attention_weight = 1.0 if progress < 0.2 else 0.5 if progress < 0.7 else 0.2
    refusal_share = 0.03 + 0.12 * min(1.0, max(0.0, (progress - 0.4) / 0.2))
    return CurriculumStage(difficulty, max_tokens, rate, attention_weight, progress < 0.7, refusal_share)


class Training:
    """A training in `folder`, with a checkpoint, from which it resumes, and a log of the losses."""

    def __init__(self, config: TrainingConfig, corpus: Corpus, tokenizer: Tokenizer, folder: Path, seed: int) -> None:
        self._config, self._folder, self._tokenizer = config, folder, tokenizer
        shape = SHAPES[config.size]._replace(vocabulary=tokenizer.get_vocab_size())
        torch.manual_seed(seed)
        self.network = Network(shape, token_features(tokenizer))
        self._shape: Shape = shape
        self._content_tokens = torch.from_numpy(content_token_mask(tokenizer))
        matrices = [p for p in self.network.blk.parameters() if p.ndim == 2]
        others = [p for p in self.network.parameters() if all(p is not m for m in matrices)]
        self.classifier = RelevanceClassifier(shape.width)
        classifier = self.classifier.parameters()
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Muon(matrices, lr=config.matrix_rate, momentum=0.95, weight_decay=0.1), config.matrix_rate),
            (torch.optim.AdamW(others, lr=config.other_rate, betas=(0.9, 0.95), weight_decay=0.0), config.other_rate),
            (torch.optim.AdamW(classifier, lr=config.other_rate, weight_decay=0.0), config.other_rate),
        ]
        self.num_tokens, self.num_steps, self.seconds = 0, 0, 0.0
        self._resume()
        idf = IdfWeights(corpus.pages)
        self._examples = Examples(corpus, seed + self.num_steps, idf)
        self._held_out = Examples(corpus, _VALIDATION_SEED, idf, held_out=True)

    @property
    def progress(self) -> float:
        return min(1.0, self.num_tokens / self._config.tokens)

    def run(self, minutes: float) -> None:
        """Train until the curriculum is complete, or for so many minutes; then save and validate."""
        started = saved = time.monotonic()
        averages: dict[str, float] = {}
        max_tokens = 0
        source: Iterator[Batch] = iter(())
        while self.progress < 1 and time.monotonic() - started < minutes * 60:
            step_started = time.monotonic()
            stage = curriculum_stage(self.progress)
            self._examples.difficulty, self._examples.refusal_share = stage.difficulty, stage.refusal_share
            if stage.max_tokens != max_tokens:
                max_tokens = stage.max_tokens
                source = batches(self._examples, self._tokenizer, self._config.batch, max_tokens)
            for name, value in self._step(next(source), stage).items():
                averages[name] = value if name not in averages else 0.95 * averages[name] + 0.05 * value
            self.seconds += time.monotonic() - step_started
            if self.num_steps % _LOG_INTERVAL_STEPS == 0:
                self._log_averages(stage, averages)
            if time.monotonic() - saved > _SAVE_INTERVAL_S:
                self.save()
                self._log(**self.validate())
                saved = time.monotonic()
        self.save()
        self._log(**self.validate())

    def _step(self, batch: Batch, stage: CurriculumStage) -> dict[str, float]:
        """Train on one batch and return its losses and accuracies by name."""
        self._set_learning_rates(stage.rate)
        targets = attention_targets(batch, self._content_tokens, self._shape, all_heads=stage.all_heads)
        with torch.autocast("cpu", torch.bfloat16):
            output = self.network(batch.ids, targets)
            labels = batch.ids[:, 1:]
            is_answer = batch.is_answer[:, 1:]
            is_prompt = (torch.rand(is_answer.shape) < _PROMPT_SHARE) & ~is_answer & batch.is_text[:, 1:]
            is_trained = is_answer | is_prompt
            logits = self.network.logits(output.hidden[:, :-1][is_trained]).float()
        loss, metrics = _token_loss(batch, logits, labels[is_trained], is_trained)
        if output.attention_losses:
            loss = loss + stage.attention_weight * torch.stack(list(output.attention_losses.values())).sum()
        metrics |= {name: float(value.detach()) for name, value in output.attention_losses.items()}
        if (batch.is_relevant >= 0).any():
            relevance_loss, accuracy = self.classifier(output.sentence_states, batch.lead_start, batch.is_relevant)
            loss, metrics["relevance_accuracy"] = loss + _RELEVANCE_WEIGHT * relevance_loss, float(accuracy)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer, _ in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.num_steps += 1
        self.num_tokens += int(batch.is_text.sum())
        return metrics

    def _set_learning_rates(self, factor: float) -> None:
        factor *= min(1.0, (self.num_steps + 1) / _WARM_UP_STEPS)
        for optimizer, rate in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def validate(self) -> dict[str, float]:
        """Return how well greedy decoding predicts the answers of held-out conversations.

        `exact`: the share of answers whose every token is right; `prefix_exact`: of those whose first four are;
        `token_accuracy`; `num_answers`.
        """
        stage = curriculum_stage(self.progress)
        self._held_out.difficulty, self._held_out.refusal_share = stage.difficulty, stage.refusal_share
        source = batches(self._held_out, self._tokenizer, self._config.batch, stage.max_tokens)
        counts = Counter[str]()
        for batch in islice(source, _NUM_VALIDATION_BATCHES):
            with torch.no_grad():
                predictions = self.network.logits(self.network(batch.ids).hidden).argmax(-1)
            for row, answers in enumerate(batch.answers()):
                for answer in answers:
                    preceding = slice(answer.start - 1, answer.stop - 1)
                    is_right = predictions[row, preceding] == batch.ids[row, answer]
                    counts["answers"] += 1
                    counts["exact"] += bool(is_right.all())
                    counts["prefix_exact"] += bool(is_right[:4].all())
                    counts["tokens"] += len(is_right)
                    counts["right_tokens"] += int(is_right.sum())
        num_answers = max(1, counts["answers"])
        return {
            "exact": round(counts["exact"] / num_answers, 3),
            "prefix_exact": round(counts["prefix_exact"] / num_answers, 3),
            "token_accuracy": round(counts["right_tokens"] / max(1, counts["tokens"]), 3),
            "num_answers": num_answers,
        }

    def save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "classifier": self.classifier.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer, _ in self._optimizers],
            "config": self._config._asdict(),
            "shape": self._shape._asdict(),
            "num_tokens": self.num_tokens,
            "num_steps": self.num_steps,
            "seconds": self.seconds,
        }
        temporary = self._folder / f"{_CHECKPOINT}.new"
        torch.save(state, temporary)
        temporary.replace(self._folder / _CHECKPOINT)

    def _resume(self) -> None:
        file = self._folder / _CHECKPOINT
        if not file.exists():
            return
        state = read_checkpoint(file)
        if state["shape"] != self._shape._asdict():
            raise SystemExit(f"{file} is of another shape, {state['shape']}: choose another folder")
        self.network.load_state_dict(state["network"])
        self.classifier.load_state_dict(state["classifier"])
        for (optimizer, _), saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.num_tokens, self.num_steps, self.seconds = state["num_tokens"], state["num_steps"], state["seconds"]
        self._log(resumed=self.num_steps, tokens=self.num_tokens)

    def _log_averages(self, stage: CurriculumStage, averages: dict[str, float]) -> None:
        self._log(
            step=self.num_steps,
            seconds=round(self.seconds),
            tokens=self.num_tokens,
            difficulty=round(stage.difficulty, 2),
            **{name: round(value, 3) for name, value in sorted(averages.items())},
        )

    def _log(self, **values: Any) -> None:
        line = json.dumps(values, ensure_ascii=False)
        print(line, flush=True)
        with (self._folder / "losses.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _token_loss(batch: Batch, logits: Tensor, labels: Tensor, is_trained: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted cross-entropy of the trained tokens, and their losses and accuracies by name.

    The first token of an answer selects the sentence, and weighs as much as all copied tokens together, and as all
    others of the answers: those after a quote, and its end.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    is_answer = batch.is_answer[:, 1:][is_trained]
    is_first = ((batch.selected_sentence[:, :-1] >= 0) & (~batch.is_answer[:, :-1]))[is_trained]
    is_copied = (batch.copied_token[:, :-1] >= 0)[is_trained] & ~is_first
    is_other = is_answer & ~is_first & ~is_copied
    weights = ((is_first, 1.0), (is_copied, 1.0), (is_other, 1.0), (~is_answer, _PROMPT_WEIGHT))
    total = torch.stack([weight * _masked_mean(losses, mask) for mask, weight in weights]).sum()
    is_right = (logits.argmax(-1) == labels).float()
    return total, {
        "answer_loss": float(_masked_mean(losses, is_answer).detach()),
        "other_loss": float(_masked_mean(losses, is_other).detach()),
        "answer_accuracy": float(_masked_mean(is_right, is_answer)),
        "first_token_accuracy": float(_masked_mean(is_right, is_first)),
    }


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint that `Training` wrote; only tensors and plain values are loaded from it."""
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)
