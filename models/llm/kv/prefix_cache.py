"""The prefixes of tokens that the model has in memory, shared by every sequence that begins with them.

After SGLang's RadixAttention (Zheng et al., arXiv 2312.07104), over llama.cpp's unified KV cache: a cell (one token's
keys and values) may belong to many of llama.cpp's sequences, here called slots, and `llama_memory_seq_cp` lets a slot
share cells without copying them. Pure Python: what llama.cpp has to do is queued in `operations`, and the tree
describes the memory after they are carried out.

    root ─ [system, manual …] ─┬─ [question 1, answer 1] ─ [question 2 …]     every leaf has one holder, the slot that
                               └─ [question 3, answer 3]                      owns all cells from the root to its end;
                                                                              inner nodes are owned by the holders below
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from models.llm.kv.radix_tree import Node, RadixTree


class CopyCells(NamedTuple):
    """`target` shares the cells of `source` at positions [start, end); `end` -1: all of them, with the state."""

    source: int
    target: int
    start: int
    end: int


class RemoveCells(NamedTuple):
    """`slot` gives up its cells at positions [start, end); `end` -1: all from `start` on."""

    slot: int
    start: int
    end: int = -1


MemoryOperation = CopyCells | RemoveCells


class IdlePrefix(NamedTuple):
    """A prefix in memory that no sequence uses. `is_hot`: a later request reused it."""

    slot: int  # holds this prefix and nothing more
    tokens: list[int]
    is_hot: bool


class Lease:
    """A slot in use by one sequence. It shares the cells of the path to `node`; cells of later tokens are its own."""

    __slots__ = ("node", "slot")

    def __init__(self, slot: int, node: Node) -> None:
        self.slot = slot
        self.node = node

    @property
    def num_cached(self) -> int:
        """Tokens from the front whose cells are shared with the tree."""
        return self.node.end


class SlotCache(ABC):
    """Owns all slots. A slot is free, leased, or the idle holder of a node.

    The two implementations differ in whether memory can be cut at any token.
    """

    def __init__(self, num_slots: int) -> None:
        self._tree = RadixTree()
        self._num_slots = num_slots
        self._free = list(reversed(range(num_slots)))
        self._leased: set[int] = set()
        self.operations: list[MemoryOperation] = []

    def match(self, tokens: list[int]) -> int:
        """Return how many tokens from the front are in memory."""
        return self._resident(tokens)[1]

    def recent(self, *, hot: bool) -> list[list[int]]:
        """Return the prefixes in memory, most recently used first. `hot`: only those that a later request reused."""
        nodes = [node for node in self._tree if node.end and (node.is_hot if hot else self._is_end(node))]
        return [node.path for node in sorted(nodes, key=lambda node: -self._last_use(node))]

    def _last_use(self, node: Node) -> int:
        """Return when the node, or any node below it, was used last."""
        return max(each.last_used for each in node)

    @abstractmethod
    def _is_end(self, node: Node) -> bool:
        """Return whether a sequence ended at this node and none has gone on from it."""

    def acquire(self, tokens: list[int]) -> Lease | None:
        """Lease a slot that shares the longest prefix of `tokens` in memory; None when every slot is leased."""
        node = self._tree.node_at(*self._resident(tokens))
        node.num_users += 1  # before evicting for a slot, so that this node is not evicted
        slot = self._take_slot()
        if slot is None:
            node.num_users -= 1
            return None
        self._leased.add(slot)
        if node.end:
            self.operations.append(self._share(node, slot))
        self._tree.touch(node)
        return Lease(slot, node)

    def release(self, lease: Lease) -> None:
        """Take the slot back and drop what was not committed. The prefix stays until it is evicted."""
        lease.node.num_users -= 1
        self._leased.remove(lease.slot)
        if lease.node.holder == lease.slot:
            self.operations.append(RemoveCells(lease.slot, lease.node.end))
        else:
            self._empty(lease.slot)
        self._tree.prune(lease.node)

    def evict(self) -> bool:
        """Forget the least recently used prefix that no lease needs. Returns False when there is none."""
        node = self._tree.least_recently_used()
        if node is None:
            return False
        self._unhold(node)
        self._tree.prune(node)
        return True

    @contextmanager
    def reserve(self, prompts: Iterable[list[int]]) -> Iterator[None]:
        """Keep what is in memory of these prompts from being evicted during the body."""
        nodes = [self._tree.walk(tokens)[0] for tokens in prompts]
        for node in nodes:
            node.num_users += 1
        yield
        for node in nodes:  # each still has a holder or children: when a child is evicted, the node inherits its holder
            node.num_users -= 1

    def next_to_evict(self) -> IdlePrefix | None:
        """Return the prefix that `evict` would forget. Valid until the next change, once the operations are applied."""
        node = self._tree.least_recently_used()
        return IdlePrefix(node.holder, node.path, node.is_hot) if node and node.holder is not None else None

    @abstractmethod
    def commit(self, lease: Lease, tokens: list[int], num_free: int) -> None:
        """Share what the lease's slot has computed. `tokens`: all that it holds; they begin with the leased prefix.

        `num_free`: cells that the tree may take in addition; nothing is shared when it would need more.
        """

    @property
    @abstractmethod
    def num_cells(self) -> int:
        """Cells that belong to the tree."""

    @property
    @abstractmethod
    def num_evictable(self) -> int:
        """Cells that would be free after evicting all that can be evicted."""

    @abstractmethod
    def num_own(self, lease: Lease, num_computed: int) -> int:
        """Return the cells of a leased slot with `num_computed` tokens that `num_cells` does not count."""

    @abstractmethod
    def _resident(self, tokens: list[int]) -> tuple[Node, int]:
        """Return the longest prefix in memory: the node in or at which it ends, and its length."""

    @abstractmethod
    def _share(self, node: Node, slot: int, start: int = 0) -> CopyCells:
        """Return the operation that makes `slot` share the cells of the path to the node, from `start` on."""

    @abstractmethod
    def _unhold(self, node: Node) -> None:
        """Take the node's holder away, and free its slot unless the parent needs it."""

    def _take_slot(self) -> int | None:
        while not self._free and self.evict():
            pass
        return self._free.pop() if self._free else None

    def _empty(self, slot: int) -> None:
        self.operations.append(RemoveCells(slot, 0))
        self._free.append(slot)

    def _move(self, lease: Lease, node: Node) -> None:
        """Let the lease share the path to `node` from now on."""
        previous, lease.node = lease.node, node
        node.num_users += 1
        previous.num_users -= 1
        self._tree.touch(node)
        self._tree.prune(previous)

    def check_integrity(self, leases: list[Lease]) -> None:
        """Assert that every slot is in one place, and that leases and users agree. For tests."""
        self._tree.check_integrity()
        holders = [node.holder for node in self._tree if node.holder is not None]
        assert len(holders) == len(set(holders))
        assert self._leased == {lease.slot for lease in leases}
        idle = set(holders) - self._leased
        assert sorted([*self._free, *self._leased, *idle]) == list(range(self._num_slots))
        for node in self._tree:
            assert node.num_users == sum(lease.node is node for lease in leases)


class PrefixCache(SlotCache):
    """For models whose memory can be cut at any token: attention's keys and values."""

    @property
    def num_cells(self) -> int:
        return sum(len(node.tokens) for node in self._tree)

    @property
    def num_evictable(self) -> int:
        needed: set[Node] = set()  # by a lease at the node or below it
        num_cells = 0
        for node in reversed(list(self._tree)):  # children before their parents
            if node.num_users or node in needed:
                needed |= {node.parent} if node.parent else set()
            else:
                num_cells += len(node.tokens)
        return num_cells

    def num_own(self, lease: Lease, num_computed: int) -> int:
        return num_computed - lease.num_cached

    def commit(self, lease: Lease, tokens: list[int], num_free: int) -> None:
        start = lease.node.end
        node = self._tree.node_at(*self._tree.walk(tokens, lease.node))
        if node.end > start:  # another sequence has computed the same meanwhile: share its cells and give up our own
            self.operations += [RemoveCells(lease.slot, start, node.end), self._share(node, lease.slot, start)]
        if len(tokens) > node.end:
            node = self._extend(node, tokens[node.end :], lease.slot)
        self._move(lease, node)

    def _extend(self, node: Node, tokens: list[int], slot: int) -> Node:
        """Add a leaf that `slot` holds. `node` is a leaf no more, so its holder is freed."""
        previous, node.holder = node.holder, None
        if previous is not None and previous != slot and previous not in self._leased:
            self._empty(previous)
        return self._tree.extend(node, tokens, slot)

    def _is_end(self, node: Node) -> bool:
        return not node.children

    def _resident(self, tokens: list[int]) -> tuple[Node, int]:
        return self._tree.walk(tokens)

    def _share(self, node: Node, slot: int, start: int = 0) -> CopyCells:
        leaf = node
        while leaf.children:
            leaf = next(iter(leaf.children.values()))
        assert leaf.holder is not None
        return CopyCells(leaf.holder, slot, start, node.end)

    def _unhold(self, node: Node) -> None:
        """Take the holder away; a parent without other children becomes a leaf and inherits the holder."""
        parent, holder, node.holder = node.parent, node.holder, None
        assert parent is not None
        assert holder is not None
        if parent.parent is not None and len(parent.children) == 1:
            parent.holder = holder
            self.operations.append(RemoveCells(holder, parent.end))
        else:
            self._empty(holder)

    def check_integrity(self, leases: list[Lease]) -> None:
        super().check_integrity(leases)
        assert all((node.holder is not None) == (not node.children) for node in self._tree if node.parent)


class CheckpointCache(SlotCache):
    """For models whose memory cannot be cut: recurrent and hybrid models fold what they read into one state.

    A commit makes a checkpoint, a slot of its own that keeps the state at that position: at the end of a prompt, at the
    end of an answer. A prefix is found whole or not at all. A cell is counted once for every checkpoint that owns it,
    which overestimates: a hybrid model's few attention layers make cells cheap, and they must not run out.
    """

    @property
    def num_cells(self) -> int:
        return sum(node.end for node in self._tree if node.holder is not None)

    @property
    def num_evictable(self) -> int:
        return sum(node.end for node in self._tree if node.holder is not None and not node.num_users)

    def num_own(self, lease: Lease, num_computed: int) -> int:
        return num_computed - (0 if lease.node.holder is None else lease.node.end)

    def commit(self, lease: Lease, tokens: list[int], num_free: int) -> None:
        """Make a checkpoint; the leased prefix then counts twice, as the old checkpoint's and as the new one's."""
        limit = self.num_cells + num_free - lease.node.end
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
            self.operations.append(CopyCells(lease.slot, slot, 0, -1))
        else:  # another sequence has computed the same: share its checkpoint instead
            self._free.append(slot)
            self.operations += [RemoveCells(lease.slot, 0), self._share(node, lease.slot)]

    def _is_end(self, node: Node) -> bool:
        return node.holder is not None

    def _resident(self, tokens: list[int]) -> tuple[Node, int]:
        node, matched = self._tree.walk(tokens)
        while node.parent is not None and (node.end > matched or node.holder is None):
            node = node.parent
        return node, node.end

    def _share(self, node: Node, slot: int, start: int = 0) -> CopyCells:
        assert node.holder is not None
        return CopyCells(node.holder, slot, 0, -1)

    def _unhold(self, node: Node) -> None:
        assert node.holder is not None
        self._empty(node.holder)
        node.holder = None
