"""The Protocols through which the tiers of the KV cache use the engine's scheduler and runner."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.llm.kv.prefix_cache import IdlePrefix, Lease, MemoryOperation

TokenArray = NDArray[np.int32]
State = memoryview | bytes  # llama.cpp's state of a slot: the memory of all tokens that it holds


class StateRunner(Protocol):
    """Changes the memory of slots; implemented by `models.llm.llama.runner.LlamaRunner`."""

    def apply(self, operations: list[MemoryOperation]) -> None: ...
    def save(self, slot: int) -> State:
        """Copy a slot's memory."""

    def load(self, slot: int, state: State) -> bool:
        """Fill an empty slot with a saved state; False when it does not fit."""


class PrefixScheduler(Protocol):
    """Lends slots and says which prefixes are used; implemented by `models.llm.engine.scheduler.Scheduler`."""

    @property
    def is_idle(self) -> bool: ...
    @property
    def num_running(self) -> int: ...
    @property
    def supports_partial_removal(self) -> bool: ...
    @property
    def upcoming_prompts(self) -> list[list[int]]: ...
    @property
    def num_idle_cells(self) -> int: ...
    def take_operations(self) -> list[MemoryOperation]: ...
    def num_resident(self, tokens: list[int]) -> int: ...
    def prefixes(self, *, hot: bool) -> list[list[int]]: ...
    def borrow_slot(self, tokens: list[int], num_cells: int = 0) -> Lease | None: ...
    def return_slot(self, lease: Lease, tokens: list[int]) -> None: ...
    def next_idle_prefix(self) -> IdlePrefix | None: ...
    def evict_idle_prefix(self) -> None: ...
