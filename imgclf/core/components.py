"""Connected components of a graph that is given as pairs of nodes."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T", int, str)


def smallest(nodes: Iterable[T], pairs: Iterable[tuple[T, T]]) -> dict[T, T]:
    """Map each node to the smallest node of its connected component. A node without pairs maps to itself."""
    parent: dict[T, T] = {}

    def root(node: T) -> T:
        while (above := parent.get(node, node)) != node:
            parent[node] = above = parent.get(above, above)  # halve the path
            node = above
        return node

    for pair in pairs:
        first, second = sorted(root(node) for node in pair)
        if first != second:
            parent[second] = first
    return {node: root(node) for node in nodes}
