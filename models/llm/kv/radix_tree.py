"""A radix tree over token ids: runs of tokens on edges, and who holds the model's memory of each path.

Knows nothing of llama.cpp but that memory belongs to numbered slots (its sequences). The two ways to share that memory
are `PrefixCache` and `CheckpointCache`.
"""

import itertools
from collections.abc import Iterator


class Node:
    """A run of tokens after its parent's. `end` counts tokens from the root; `num_users` leases end exactly here.

    `holder` is the slot that keeps the memory of the path from the root to here, if there is one of its own. `is_hot`:
    a later request went on from here, or from what is now a part of the run.
    """

    __slots__ = ("children", "end", "holder", "is_hot", "last_used", "num_users", "parent", "tokens")

    def __init__(self, tokens: list[int], parent: "Node | None", holder: int | None) -> None:
        self.tokens = tokens
        self.parent = parent
        self.holder = holder
        self.end: int = (parent.end if parent else 0) + len(tokens)
        self.children: dict[int, Node] = {}
        self.num_users = 0
        self.last_used = 0
        self.is_hot = False

    @property
    def path(self) -> list[int]:
        """Tokens from the root to here."""
        parts: list[list[int]] = []
        node: Node | None = self
        while node is not None:
            parts.append(node.tokens)
            node = node.parent
        return [token for part in reversed(parts) for token in part]

    def __iter__(self) -> Iterator["Node"]:
        """This node and all below it, parents first. A conversation makes long chains: no recursion."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending += node.children.values()

    def __repr__(self) -> str:
        return f"Node(end={self.end}, holder={self.holder}, users={self.num_users}, children={len(self.children)})"


class RadixTree:
    """The paths. Whoever changes holders calls `prune` where nobody is left."""

    def __init__(self) -> None:
        self.root = Node([], None, None)
        self._clock = itertools.count(1)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.root)

    def walk(self, tokens: list[int], start: Node | None = None) -> tuple[Node, int]:
        """Down from `start`, which `tokens` begin with, as far as they agree: the last node touched, tokens matched."""
        node = start or self.root
        matched = node.end
        while matched < len(tokens) and (child := node.children.get(tokens[matched])):
            wanted = tokens[matched : matched + len(child.tokens)]
            if wanted != child.tokens:
                return child, matched + _common(wanted, child.tokens)
            node, matched = child, child.end
        return node, matched

    def node_at(self, node: Node, end: int) -> Node:
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

    def extend(self, node: Node, tokens: list[int], holder: int | None) -> Node:
        """A new leaf below `node`."""
        leaf = node.children[tokens[0]] = Node(list(tokens), node, holder)
        return leaf

    def prune(self, node: Node) -> None:
        """Takes out what nobody holds or leases any more, upwards from `node`, and joins what is then one run."""
        while node.parent is not None and not node.children and node.holder is None and not node.num_users:
            del node.parent.children[node.tokens[0]]
            node = node.parent
        if node.parent is not None and len(node.children) == 1 and node.holder is None and not node.num_users:
            (child,) = node.children.values()
            child.tokens, child.parent = node.tokens + child.tokens, node.parent
            child.is_hot |= node.is_hot
            node.parent.children[node.tokens[0]] = child

    def touch(self, node: Node | None) -> None:
        now = next(self._clock)
        while node is not None:
            node.last_used = now
            node = node.parent

    def least_recently_used(self) -> Node | None:
        """Of the nodes with a holder that nobody leases."""
        idle = (node for node in self if node.holder is not None and not node.num_users)
        return min(idle, key=lambda node: node.last_used, default=None)

    def check_integrity(self) -> None:
        for node in self:
            assert node.end == (node.parent.end if node.parent else 0) + len(node.tokens)
            assert all(child.tokens[0] == first and child.parent is node for first, child in node.children.items())
            assert not node.parent or node.children or node.holder is not None or node.num_users


def _common(a: list[int], b: list[int]) -> int:
    """How many tokens from the front are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
