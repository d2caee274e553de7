"""Which prefixes of tokens the model has in memory, shared by every sequence that begins with them.

After SGLang's RadixAttention (Zheng et al., arXiv 2312.07104), over llama.cpp's unified KV cache: a cell (one token's
keys and values) may belong to many of llama.cpp's sequences, here called slots, and `llama_memory_seq_cp` lets a slot
join cells without copying them. Pure Python: what llama.cpp has to do is queued in `operations`, and the tree speaks of
the state after them.

    root ─ [system, manual …] ─┬─ [question 1, answer 1] ─ [question 2 …]     every leaf has one holder, the slot that
                               └─ [question 3, answer 3]                      owns all cells from the root to its end;
                                                                              inner nodes live by the holders below them
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from models.llm.kv.radix_tree import Node, RadixTree


class Copy(NamedTuple):
    """The memory of `source` at positions [start, end) becomes `target`'s as well; `end` -1: all, with its state."""

    source: int
    target: int
    start: int
    end: int


class Remove(NamedTuple):
    """`slot` gives up its memory at positions [start, end); `end` -1: all from `start` on."""

    slot: int
    start: int
    end: int = -1


Operation = Copy | Remove


class Resting(NamedTuple):
    """A prefix in memory that nobody uses or waits for. `is_hot`: a later request went on from it."""

    slot: int  # that holds just this
    tokens: list[int]
    is_hot: bool


class Lease:
    """A slot in use by one sequence, which shares the memory of `node`'s path; later tokens are its own."""

    __slots__ = ("node", "slot")

    def __init__(self, slot: int, node: Node) -> None:
        self.slot = slot
        self.node = node

    @property
    def num_cached(self) -> int:
        """Tokens from the front that are shared with the tree."""
        return self.node.end


class Cache(ABC):
    """Owns all slots. A slot is free, leased, or the idle holder of a node."""

    def __init__(self, num_slots: int) -> None:
        self._tree = RadixTree()
        self._num_slots = num_slots
        self._free = list(reversed(range(num_slots)))
        self._leased: set[int] = set()
        self.operations: list[Operation] = []

    def match(self, tokens: list[int]) -> int:
        """How many tokens from the front can be had from memory."""
        return self._resident(tokens)[1]

    def recent(self, *, hot: bool) -> list[list[int]]:
        """Prefixes in memory, most recently used first; with `hot`, those that a later request went on from."""
        nodes = [node for node in self._tree if node.end and (node.is_hot if hot else self._is_end(node))]
        return [node.path for node in sorted(nodes, key=lambda node: -self._last_use(node))]

    def _last_use(self, node: Node) -> int:
        """Of it or of what goes on from it."""
        return max(each.last_used for each in node)

    @abstractmethod
    def _is_end(self, node: Node) -> bool:
        """Whether the node is where somebody left off."""

    def acquire(self, tokens: list[int]) -> Lease | None:
        """A slot with the longest prefix of `tokens` that can be had; None when every slot is in use."""
        node = self._tree.node_at(*self._resident(tokens))
        node.num_users += 1  # before evicting for a slot, so that this is not what goes
        slot = self._take_slot()
        if slot is None:
            node.num_users -= 1
            return None
        self._leased.add(slot)
        if node.end:
            self.operations.append(self._join(node, slot))
        self._tree.touch(node)
        return Lease(slot, node)

    def release(self, lease: Lease) -> None:
        """Gives the slot back; what was not committed goes. The prefix stays until it is evicted."""
        lease.node.num_users -= 1
        self._leased.remove(lease.slot)
        if lease.node.holder == lease.slot:
            self.operations.append(Remove(lease.slot, lease.node.end))
        else:
            self._empty(lease.slot)
        self._tree.prune(lease.node)

    def evict(self) -> bool:
        """Forgets the least recently used prefix that nobody leases; whether there was one."""
        node = self._tree.least_recently_used()
        if node is None:
            return False
        self._unhold(node)
        self._tree.prune(node)
        return True

    @contextmanager
    def reserving(self, prompts: Iterable[list[int]]) -> Iterator[None]:
        """Meanwhile what is in memory of these is used, and not evicted."""
        nodes = [self._tree.walk(tokens)[0] for tokens in prompts]
        for node in nodes:
            node.num_users += 1
        yield
        for node in nodes:  # each still has a holder or children: what is evicted below one becomes its own
            node.num_users -= 1

    def next_to_evict(self) -> Resting | None:
        """Valid until the next change; its memory is there once the operations are applied."""
        node = self._tree.least_recently_used()
        return Resting(node.holder, node.path, node.is_hot) if node and node.holder is not None else None

    @abstractmethod
    def commit(self, lease: Lease, tokens: list[int], room: int) -> None:
        """Shares what the lease's slot has computed: `tokens`, all of them. They begin with the leased prefix.

        `room`: cells that may be counted in addition; sharing that needs more is left undone.
        """

    @property
    @abstractmethod
    def num_cells(self) -> int:
        """Tokens whose memory is the tree's."""

    @property
    @abstractmethod
    def num_evictable(self) -> int:
        """Cells that evicting everything it can would free."""

    @abstractmethod
    def num_own(self, lease: Lease, num_computed: int) -> int:
        """Cells of a slot with `num_computed` tokens that `num_cells` does not count."""

    @abstractmethod
    def _resident(self, tokens: list[int]) -> tuple[Node, int]:
        """The longest prefix that can be had: the node in or at which it ends, and its length."""

    @abstractmethod
    def _join(self, node: Node, slot: int, start: int = 0) -> Copy:
        """What makes `slot` share the memory of the node's path, from `start` on."""

    @abstractmethod
    def _unhold(self, node: Node) -> None:
        """Takes the node's holder away."""

    def _take_slot(self) -> int | None:
        while not self._free and self.evict():
            pass
        return self._free.pop() if self._free else None

    def _empty(self, slot: int) -> None:
        self.operations.append(Remove(slot, 0))
        self._free.append(slot)

    def _move(self, lease: Lease, node: Node) -> None:
        """The lease ends at `node` from now on."""
        left, lease.node = lease.node, node
        node.num_users += 1
        left.num_users -= 1
        self._tree.touch(node)
        self._tree.prune(left)

    def check_integrity(self, leases: list[Lease]) -> None:
        """Every slot is in one place, and what is in the tree is held or leased."""
        self._tree.check_integrity()
        holders = [node.holder for node in self._tree if node.holder is not None]
        assert len(holders) == len(set(holders))
        assert self._leased == {lease.slot for lease in leases}
        idle = set(holders) - self._leased
        assert sorted([*self._free, *self._leased, *idle]) == list(range(self._num_slots))
        for node in self._tree:
            assert node.num_users == sum(lease.node is node for lease in leases)


class PrefixCache(Cache):
    """For memory that can be cut anywhere: attention's keys and values."""

    @property
    def num_cells(self) -> int:
        return sum(len(node.tokens) for node in self._tree)

    @property
    def num_evictable(self) -> int:
        needed: set[Node] = set()  # by a lease, at the node or below it
        cells = 0
        for node in reversed(list(self._tree)):  # children before their parents
            if node.num_users or node in needed:
                needed |= {node.parent} if node.parent else set()
            else:
                cells += len(node.tokens)
        return cells

    def num_own(self, lease: Lease, num_computed: int) -> int:
        return num_computed - lease.num_cached

    def commit(self, lease: Lease, tokens: list[int], room: int) -> None:
        start = lease.node.end
        node = self._tree.node_at(*self._tree.walk(tokens, lease.node))
        if node.end > start:  # another sequence computed the same meanwhile: join its cells, give up our own
            self.operations += [Remove(lease.slot, start, node.end), self._join(node, lease.slot, start)]
        if len(tokens) > node.end:
            node = self._extend(node, tokens[node.end :], lease.slot)
        self._move(lease, node)

    def _extend(self, node: Node, tokens: list[int], slot: int) -> Node:
        """A new leaf, held by `slot`; the holder that `node` had, being a leaf, is one no more."""
        former, node.holder = node.holder, None
        if former is not None and former != slot and former not in self._leased:
            self._empty(former)
        return self._tree.extend(node, tokens, slot)

    def _is_end(self, node: Node) -> bool:
        return not node.children

    def _resident(self, tokens: list[int]) -> tuple[Node, int]:
        return self._tree.walk(tokens)

    def _join(self, node: Node, slot: int, start: int = 0) -> Copy:
        leaf = node
        while leaf.children:
            leaf = next(iter(leaf.children.values()))
        assert leaf.holder is not None
        return Copy(leaf.holder, slot, start, node.end)

    def _unhold(self, node: Node) -> None:
        """A parent without other children becomes a leaf and takes the holder over."""
        parent, holder, node.holder = node.parent, node.holder, None
        assert parent is not None
        assert holder is not None
        if parent.parent is not None and len(parent.children) == 1:
            parent.holder = holder
            self.operations.append(Remove(holder, parent.end))
        else:
            self._empty(holder)

    def check_integrity(self, leases: list[Lease]) -> None:
        super().check_integrity(leases)
        assert all((node.holder is not None) == (not node.children) for node in self._tree if node.parent)


class CheckpointCache(Cache):
    """For memory that cannot be cut: recurrent and hybrid models fold what they read into one state.

    A commit is a checkpoint, a slot of its own that keeps the state as it was there: at the end of a prompt, at the end
    of an answer. A prefix is found whole or not at all. Cells are counted once for every checkpoint that owns them,
    which is more than they are: a hybrid's few attention layers make them cheap, and they must not run out.
    """

    @property
    def num_cells(self) -> int:
        return sum(node.end for node in self._tree if node.holder is not None)

    @property
    def num_evictable(self) -> int:
        return sum(node.end for node in self._tree if node.holder is not None and not node.num_users)

    def num_own(self, lease: Lease, num_computed: int) -> int:
        return num_computed - (0 if lease.node.holder is None else lease.node.end)

    def commit(self, lease: Lease, tokens: list[int], room: int) -> None:
        """Counts the leased prefix once more: as the old checkpoint's and as the new one's."""
        limit = self.num_cells + room - lease.node.end
        while self.num_cells > limit and self.evict():
            pass
        slot = self._take_slot() if self.num_cells <= limit else None
        if slot is None:
            return
        node = self._tree.node_at(*self._tree.walk(tokens, lease.node))
        if len(tokens) > node.end:
            node = self._tree.extend(node, tokens[node.end :], None)
        self._move(lease, node)
        if node.holder is None:
            node.holder = slot
            self.operations.append(Copy(lease.slot, slot, 0, -1))
        else:  # another sequence has computed the same: own its memory instead
            self._free.append(slot)
            self.operations += [Remove(lease.slot, 0), self._join(node, lease.slot)]

    def _is_end(self, node: Node) -> bool:
        return node.holder is not None

    def _resident(self, tokens: list[int]) -> tuple[Node, int]:
        node, matched = self._tree.walk(tokens)
        while node.parent is not None and (node.end > matched or node.holder is None):
            node = node.parent
        return node, node.end

    def _join(self, node: Node, slot: int, start: int = 0) -> Copy:
        assert node.holder is not None
        return Copy(node.holder, slot, 0, -1)

    def _unhold(self, node: Node) -> None:
        assert node.holder is not None
        self._empty(node.holder)
        node.holder = None
