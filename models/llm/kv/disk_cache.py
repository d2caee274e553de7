"""The disk tier of the KV cache: decides which prefixes in memory are written to disk, and restores them."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from models.llm.kv.base import PrefixScheduler, State, StateRunner
from models.llm.kv.offload import KVOffload
from models.llm.kv.prefix_store import PrefixStore, StoredPrefix
from models.llm.kv.prefixes import MIN_PREFIX_TOKENS, restore


class DiskKVCache:
    """Writes prefixes on a thread of its own, one at a time. Its methods belong to the engine's thread."""

    def __init__(self, store: PrefixStore, scheduler: PrefixScheduler, runner: StateRunner, offload: KVOffload) -> None:
        self._store = store
        self._scheduler = scheduler
        self._runner = runner
        self._offload = offload
        self._whole = not scheduler.supports_partial_removal  # a state cannot be cut to a shorter prefix
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="disk-kv-cache")
        self._write: Future[bool] | None = None
        self._attempted: set[int] = set()  # hashes of the prefixes that were written, or could not be, in this run

    def find(self, prompt: list[int]) -> StoredPrefix | None:
        """Return a stored prefix that saves this prompt much computing which prefixes in memory do not save."""
        stored, size = self._store.match(prompt, whole=self._whole)
        num_in_memory = max(self._scheduler.num_resident(prompt), self._offload.match(prompt))
        return stored if size - num_in_memory >= MIN_PREFIX_TOKENS else None

    def restore(self, prefix: StoredPrefix, state: bytes, prompt: list[int]) -> None:
        restore(self._scheduler, self._runner, prefix, state, prompt)

    def write_next(self) -> bool:
        """Start writing the most recently used hot prefix that is not on disk.

        Returns False when there is none, or another is being written.
        """
        if self._write is not None and not self._write.done():
            return False
        return self._write_first(self._prefixes(hot=True))

    def write_recent(self, limit_s: float) -> None:
        """Write the ends of conversations, most recently used first, for at most `limit_s` seconds: before the end."""
        deadline = time.monotonic() + limit_s
        prefixes = self._prefixes(hot=False)
        while time.monotonic() < deadline and self._write_first(prefixes):
            assert self._write is not None
            self._write.result()

    def _prefixes(self, *, hot: bool) -> list[tuple[list[int], State | None]]:
        """Return the prefixes in memory, those in the model's first, with the states of offloaded ones."""
        offloaded = [(prefix.tokens.tolist(), prefix.state) for prefix in self._offload.prefixes(hot=hot)]
        return [*((tokens, None) for tokens in self._scheduler.prefixes(hot=hot)), *offloaded]

    def _write_first(self, prefixes: list[tuple[list[int], State | None]]) -> bool:
        """Start writing the first prefix that is worth it and not yet on disk; False when there is none."""
        for tokens, offloaded_state in prefixes:
            key = hash(tuple(tokens))
            if len(tokens) < MIN_PREFIX_TOKENS or key in self._attempted:
                continue
            self._attempted.add(key)
            if self._store.is_covered(tokens, whole=self._whole):
                continue
            state = self._save(tokens) if offloaded_state is None else offloaded_state
            if state is not None:
                self._write = self._writer.submit(self._store.write, tokens, state, whole=self._whole)
                return True
        return False

    def _save(self, tokens: list[int]) -> State | None:
        """Copy a prefix out of the model's memory; None when it is not all there."""
        lease = self._scheduler.borrow_slot(tokens)
        if lease is None:
            return None
        self._runner.apply(self._scheduler.take_operations())
        is_complete = lease.num_cached == len(tokens)
        state = self._runner.save(lease.slot) if is_complete else None
        self._scheduler.return_slot(lease, tokens[: lease.num_cached])
        return state

    def close(self) -> None:
        """Wait for the write in progress."""
        self._writer.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
