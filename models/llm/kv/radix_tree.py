"""A radix tree over token ids: runs of tokens on edges, and the slot that holds the model's memory of each path.

All it knows of llama.cpp is that memory belongs to numbered slots (its sequences). `PrefixCache` and `CheckpointCache`
are the two ways to share that memory.
"""

import itertools
from collections.abc import Iterator


class Node:
    """A run of tokens that follows its parent's.

    `end`: number of tokens from the root to the end of the run. `num_users`: leases that end exactly here. `holder`:
    the slot that keeps the memory of the path from the root to here, if the node has one. `is_hot`: a later request
    went on from here, or from a node that is now part of this run.
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
        """The tokens from the root to the end of this run."""
        parts: list[list[int]] = []
        node: Node | None = self
        while node is not None:
            parts.append(node.tokens)
            node = node.parent
        return [token for part in reversed(parts) for token in part]

    def __iter__(self) -> Iterator["Node"]:
        """Yield this node and all below it, parents first. Not recursive: a conversation makes long chains."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending += node.children.values()

    def __repr__(self) -> str:
        return f"Node(end={self.end}, holder={self.holder}, users={self.num_users}, children={len(self.children)})"


class RadixTree:
    """The tree. A caller that removes a holder or a user calls `prune` on the node."""

    def __init__(self) -> None:
        self.root = Node([], None, None)
        self._clock = itertools.count(1)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.root)

    def walk(self, tokens: list[int], start: Node | None = None) -> tuple[Node, int]:
        """Follow `tokens` down from `start`, whose path they begin with.

        Return the last node touched and the number of tokens matched.
        """
        node = start or self.root
        matched = node.end
        while matched < len(tokens) and (child := node.children.get(tokens[matched])):
            run = tokens[matched : matched + len(child.tokens)]
            if run != child.tokens:
                return child, matched + _common_length(run, child.tokens)
            node, matched = child, child.end
        return node, matched

    def node_at(self, node: Node, end: int) -> Node:
        """Return the node that ends at `end`, splitting `node` in two if need be."""
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
        """Add a leaf below `node`."""
        leaf = node.children[tokens[0]] = Node(list(tokens), node, holder)
        return leaf

    def prune(self, node: Node) -> None:
        """Remove nodes without holder, user or child, upwards from `node`, and merge a node with its only child."""
        while node.parent is not None and not node.children and node.holder is None and not node.num_users:
            del node.parent.children[node.tokens[0]]
            node = node.parent
        if node.parent is not None and len(node.children) == 1 and node.holder is None and not node.num_users:
            (child,) = node.children.values()
            child.tokens, child.parent = node.tokens + child.tokens, node.parent
            child.is_hot |= node.is_hot
            node.parent.children[node.tokens[0]] = child

    def touch(self, node: Node | None) -> None:
        """Mark a node and all above it as used now."""
        now = next(self._clock)
        while node is not None:
            node.last_used = now
            node = node.parent

    def least_recently_used(self) -> Node | None:
        """Return the least recently used node that has a holder and no user."""
        idle = (node for node in self if node.holder is not None and not node.num_users)
        return min(idle, key=lambda node: node.last_used, default=None)

    def check_integrity(self) -> None:
        for node in self:
            assert node.end == (node.parent.end if node.parent else 0) + len(node.tokens)
            assert all(child.tokens[0] == first and child.parent is node for first, child in node.children.items())
            assert not node.parent or node.children or node.holder is not None or node.num_users


def _common_length(a: list[int], b: list[int]) -> int:
    """Return how many tokens from the front are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
