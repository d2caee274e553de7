"""Between a model's memory and its prefixes on disk: what to keep, and putting it back."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, Self

from models.llm.prefix_cache import Operation, Remove
from models.llm.prefix_store import PrefixStore, Saved
from models.llm.scheduler import Scheduler

_WORTH_KEEPING = 64  # tokens; fewer are computed again in no time


class StateRunner(Protocol):
    def apply(self, operations: list[Operation]) -> None: ...
    def save(self, slot: int) -> bytes: ...
    def load(self, slot: int, state: bytes) -> bool: ...


class Archive:
    """For the engine's thread. Files are written on a thread of its own, one at a time."""

    def __init__(self, store: PrefixStore, scheduler: Scheduler, runner: StateRunner) -> None:
        self._store = store
        self._scheduler = scheduler
        self._runner = runner
        self._is_whole = not scheduler.is_divisible
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._writing: Future[bool] | None = None
        self._tried: set[int] = set()  # hashes of the prefixes written, or refused, in this run

    def find(self, prompt: list[int]) -> Saved | None:
        """A saved prefix that spares this prompt much that memory does not."""
        saved, size = self._store.match(prompt, whole=self._is_whole)
        return saved if size - self._scheduler.num_resident(prompt) >= _WORTH_KEEPING else None

    def restore(self, saved: Saved, state: bytes, prompt: list[int]) -> int:
        """Puts a prefix back into memory, as far as the prompt agrees with it; how many tokens that is.

        0 when there is no room without stopping somebody's work, or llama.cpp does not take it.
        """
        lease = self._scheduler.lend([], num_cells=len(saved.tokens))
        if lease is None:
            return 0
        self._runner.apply(self._scheduler.take_operations())
        tokens: list[int] = []
        if self._runner.load(lease.slot, state):
            tokens = saved.tokens[: self._agreement(saved, prompt)].tolist()
            self._runner.apply([Remove(lease.slot, len(tokens))] if len(tokens) < len(saved.tokens) else [])
        else:
            self._store.drop(saved)
            self._runner.apply([Remove(lease.slot, 0)])
        self._scheduler.take_back(lease, tokens)
        return len(tokens)

    def _agreement(self, saved: Saved, prompt: list[int]) -> int:
        pairs = zip(saved.tokens.tolist(), prompt, strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(saved.tokens), len(prompt)))

    def keep_next(self) -> bool:
        """Begins to write the hot prefix used last that is not on disk. False when there is none, or one is written."""
        if self._writing is not None and not self._writing.done():
            return False
        return self._keep(self._scheduler.prefixes(hot=True))

    def keep_recent(self, limit_s: float) -> None:
        """Writes what conversations left off with, the latest first, for as long as `limit_s`: before the end."""
        deadline = time.monotonic() + limit_s
        prefixes = self._scheduler.prefixes(hot=False)
        while time.monotonic() < deadline and self._keep(prefixes):
            assert self._writing is not None
            self._writing.result()

    def _keep(self, prefixes: list[list[int]]) -> bool:
        for tokens in prefixes:
            key = hash(tuple(tokens))
            if len(tokens) < _WORTH_KEEPING or key in self._tried:
                continue
            self._tried.add(key)
            if not self._store.covers(tokens, whole=self._is_whole) and self._begin(tokens):
                return True
        return False

    def _begin(self, tokens: list[int]) -> bool:
        lease = self._scheduler.lend(tokens)
        if lease is None:
            return False
        self._runner.apply(self._scheduler.take_operations())
        is_all_there = lease.num_cached == len(tokens)
        state = self._runner.save(lease.slot) if is_all_there else b""
        self._scheduler.take_back(lease, tokens[: lease.num_cached])
        if is_all_there:
            self._writing = self._writer.submit(self._store.write, tokens, state, whole=self._is_whole)
        return is_all_there

    def close(self) -> None:
        self._writer.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
