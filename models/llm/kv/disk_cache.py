"""Between memory, the model's and the process's own, and prefixes on disk: what to keep, and putting it back."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from models.llm.engine.scheduler import Scheduler
from models.llm.kv.offload import KVOffload
from models.llm.kv.prefix_store import PrefixStore, Saved
from models.llm.kv.prefixes import WORTH_KEEPING, State, StateRunner, restore


class DiskKVCache:
    """For the engine's thread. Files are written on a thread of its own, one at a time."""

    def __init__(self, store: PrefixStore, scheduler: Scheduler, runner: StateRunner, parking: KVOffload) -> None:
        self._store = store
        self._scheduler = scheduler
        self._runner = runner
        self._parking = parking
        self._is_whole = not scheduler.supports_partial_removal
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._writing: Future[bool] | None = None
        self._tried: set[int] = set()  # hashes of the prefixes written, or refused, in this run

    def find(self, prompt: list[int]) -> Saved | None:
        """A saved prefix that spares this prompt much that memory does not."""
        saved, size = self._store.match(prompt, whole=self._is_whole)
        at_hand = max(self._scheduler.num_resident(prompt), self._parking.match(prompt))
        return saved if size - at_hand >= WORTH_KEEPING else None

    def restore(self, saved: Saved, state: bytes, prompt: list[int]) -> None:
        restore(self._scheduler, self._runner, saved, state, prompt)

    def keep_next(self) -> bool:
        """Begins to write the hot prefix used last that is not on disk. False when there is none, or one is written."""
        if self._writing is not None and not self._writing.done():
            return False
        return self._keep(self._prefixes(hot=True))

    def keep_recent(self, limit_s: float) -> None:
        """Writes what conversations left off with, the latest first, for as long as `limit_s`: before the end."""
        deadline = time.monotonic() + limit_s
        prefixes = self._prefixes(hot=False)
        while time.monotonic() < deadline and self._keep(prefixes):
            assert self._writing is not None
            self._writing.result()

    def _prefixes(self, *, hot: bool) -> list[tuple[list[int], State | None]]:
        """With their states, if these are at hand already."""
        parked = [(each.tokens.tolist(), each.state) for each in self._parking.prefixes(hot=hot)]
        return [*((tokens, None) for tokens in self._scheduler.prefixes(hot=hot)), *parked]

    def _keep(self, prefixes: list[tuple[list[int], State | None]]) -> bool:
        for tokens, state in prefixes:
            key = hash(tuple(tokens))
            if len(tokens) < WORTH_KEEPING or key in self._tried:
                continue
            self._tried.add(key)
            if self._store.covers(tokens, whole=self._is_whole):
                continue
            if (state := self._state(tokens) if state is None else state) is not None:
                self._writing = self._writer.submit(self._store.write, tokens, state, whole=self._is_whole)
                return True
        return False

    def _state(self, tokens: list[int]) -> State | None:
        """From the model's memory; None when it is not all there."""
        lease = self._scheduler.lend(tokens)
        if lease is None:
            return None
        self._runner.apply(self._scheduler.take_operations())
        is_all_there = lease.num_cached == len(tokens)
        state = self._runner.save(lease.slot) if is_all_there else None
        self._scheduler.take_back(lease, tokens[: lease.num_cached])
        return state

    def close(self) -> None:
        self._writer.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
