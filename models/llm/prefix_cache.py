"""Which prefixes of tokens have their keys and values in memory, shared by every sequence that begins with them.

A radix tree over token ids, as in SGLang's RadixAttention (Zheng et al., arXiv 2312.07104), over llama.cpp's unified KV
cache: a cell (one token's keys and values) may belong to many of llama.cpp's sequences, here called slots, and
`llama_memory_seq_cp` lets a slot join cells without copying them. Pure Python: what llama.cpp has to do is queued in
`operations`, and the tree speaks of the state after them.

    root ─ [system, manual …] ─┬─ [question 1, answer 1] ─ [question 2 …]     every leaf has one holder, the slot that
                               └─ [question 3, answer 3]                      owns all cells from the root to its end;
                                                                              inner nodes live by the holders below them
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple


class Copy(NamedTuple):
    """The cells of `source` at positions [start, end) become `target`'s as well."""

    source: int
    target: int
    start: int
    end: int


class Remove(NamedTuple):
    """`slot` gives up its cells at positions [start, end); `end` -1: all from `start` on."""

    slot: int
    start: int
    end: int = -1


Operation = Copy | Remove


class Node:
    """A run of tokens after its parent's. `end` counts tokens from the root; `num_users` leases end exactly here."""

    __slots__ = ("children", "end", "holder", "last_used", "num_users", "parent", "tokens")

    def __init__(self, tokens: list[int], parent: "Node | None", holder: int | None) -> None:
        self.tokens = tokens
        self.parent = parent
        self.holder = holder
        self.end: int = (parent.end if parent else 0) + len(tokens)
        self.children: dict[int, Node] = {}
        self.num_users = 0
        self.last_used = 0

    def __iter__(self) -> Iterator["Node"]:
        """This node and all below it."""
        yield self
        for child in self.children.values():
            yield from child


class Lease:
    """A slot in use by one sequence: cells [0, node.end) are the tree's, later ones its own."""

    __slots__ = ("node", "slot")

    def __init__(self, slot: int, node: Node) -> None:
        self.slot = slot
        self.node = node

    @property
    def num_cached(self) -> int:
        """Tokens from the front whose cells are shared with the tree."""
        return self.node.end


class PrefixCache:
    """Owns all slots. A slot is free, leased, or an idle leaf's holder."""

    def __init__(self, num_slots: int) -> None:
        self._root = Node([], None, None)
        self._num_slots = num_slots
        self._free = list(reversed(range(num_slots)))
        self._leased: set[int] = set()
        self._clock = itertools.count(1)
        self.num_cells = 0  # tokens in the tree
        self.operations: list[Operation] = []

    def match(self, tokens: list[int]) -> int:
        """How many tokens from the front are in memory."""
        _, matched = self._walk(self._root, tokens)
        return matched

    def acquire(self, tokens: list[int]) -> Lease | None:
        """A slot that owns the longest resident prefix of `tokens`; None when every slot is in use."""
        node = self._node_at(*self._walk(self._root, tokens))
        node.num_users += 1  # before evicting for a slot, so that this is not what goes
        while not self._free and self.evict():
            pass
        if not self._free:
            node.num_users -= 1
            return None
        slot = self._free.pop()
        self._leased.add(slot)
        if node.end:
            self.operations.append(Copy(self._holder_below(node), slot, 0, node.end))
        self._touch(node)
        return Lease(slot, node)

    def commit(self, lease: Lease, tokens: list[int]) -> None:
        """Shares what the lease's slot has computed: `tokens`, from the front. They begin with the leased prefix."""
        start = lease.node.end
        node = self._node_at(*self._walk(lease.node, tokens))
        if node.end > start:  # another sequence computed the same meanwhile: join its cells, give up our own
            self.operations += [
                Remove(lease.slot, start, node.end),
                Copy(self._holder_below(node), lease.slot, start, node.end),
            ]
        if len(tokens) > node.end:
            node = self._extend(node, tokens[node.end :], lease.slot)
        lease.node.num_users -= 1
        node.num_users += 1
        lease.node = node
        self._touch(node)

    def release(self, lease: Lease) -> None:
        """Gives the slot back; cells that were not committed go. The prefix stays until it is evicted."""
        lease.node.num_users -= 1
        self._leased.remove(lease.slot)
        if lease.node.holder == lease.slot:
            self.operations.append(Remove(lease.slot, lease.node.end))
        else:
            self._empty(lease.slot)

    def evict(self) -> int:
        """Forgets the least recently used leaf that nobody leases; the cells that frees, 0 when there is none."""
        leaves = (node for node in self._root if not node.children and not node.num_users and node.parent)
        leaf = min(leaves, key=lambda node: node.last_used, default=None)
        if leaf is None:
            return 0
        parent, holder = leaf.parent, leaf.holder
        assert parent is not None
        assert holder is not None
        del parent.children[leaf.tokens[0]]
        self.num_cells -= len(leaf.tokens)
        if parent.children or parent.parent is None:
            self._empty(holder)
        else:
            parent.holder = holder
            self.operations.append(Remove(holder, parent.end))
        return len(leaf.tokens)

    @property
    def num_evictable(self) -> int:
        """Cells that evicting everything it can would free."""

        def free_below(node: Node) -> tuple[int, bool]:
            below = [free_below(child) for child in node.children.values()]
            is_free = not node.num_users and all(child_is_free for _, child_is_free in below)
            return sum(cells for cells, _ in below) + (len(node.tokens) if is_free else 0), is_free

        return free_below(self._root)[0]

    def _walk(self, node: Node, tokens: list[int]) -> tuple[Node, int]:
        """From `node`, which `tokens` begin with, down as far as they agree: the last node touched, tokens matched."""
        matched = node.end
        while matched < len(tokens) and (child := node.children.get(tokens[matched])):
            edge = child.tokens
            upto = tokens[matched : matched + len(edge)]
            if upto == edge:
                node, matched = child, child.end
                continue
            return child, matched + next(
                (i for i, (a, b) in enumerate(zip(upto, edge, strict=False)) if a != b), len(upto)
            )
        return node, matched

    def _node_at(self, node: Node, end: int) -> Node:
        """The node that ends at `end`, cutting `node` in two where it must be."""
        if node.end == end:
            return node
        parent = node.parent
        assert parent is not None
        size = end - parent.end
        upper = Node(node.tokens[:size], parent, None)
        upper.last_used = node.last_used
        parent.children[upper.tokens[0]] = upper
        node.tokens, node.parent = node.tokens[size:], upper
        upper.children[node.tokens[0]] = node
        return upper

    def _extend(self, node: Node, tokens: list[int], slot: int) -> Node:
        """A new leaf below `node`, held by `slot`; the holder that `node` had is one no more."""
        leaf = node.children[tokens[0]] = Node(list(tokens), node, slot)
        self.num_cells += len(tokens)
        former, node.holder = node.holder, None
        if former is not None and former != slot and former not in self._leased:
            self._empty(former)
        return leaf

    def _holder_below(self, node: Node) -> int:
        while node.children:
            node = next(iter(node.children.values()))
        assert node.holder is not None
        return node.holder

    def _empty(self, slot: int) -> None:
        self.operations.append(Remove(slot, 0))
        self._free.append(slot)

    def _touch(self, node: Node | None) -> None:
        now = next(self._clock)
        while node is not None:
            node.last_used = now
            node = node.parent

    def check_integrity(self, leases: list[Lease]) -> None:
        """Every slot is in one place, every leaf has one holder, and the counts are what counting gives."""
        nodes = list(self._root)
        holders = [node.holder for node in nodes if node.holder is not None]
        assert len(holders) == len(set(holders))
        assert all((node.holder is not None) == (not node.children) for node in nodes if node.parent)
        idle = set(holders) - self._leased
        assert self._leased == {lease.slot for lease in leases}
        assert sorted([*self._free, *self._leased, *idle]) == list(range(self._num_slots))
        assert self.num_cells == sum(len(node.tokens) for node in nodes)
        for node in nodes:
            assert node.num_users == sum(lease.node is node for lease in leases)
            assert node.end == (node.parent.end if node.parent else 0) + len(node.tokens)
            assert all(child.tokens[0] == first and child.parent is node for first, child in node.children.items())
