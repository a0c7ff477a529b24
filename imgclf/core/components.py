"""What hangs together by pairs, in chains however long."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T", int, str)


def smallest(nodes: Iterable[T], pairs: Iterable[tuple[T, T]]) -> dict[T, T]:
    """By node the smallest of those that it hangs together with, itself where it is in no pair."""
    parent: dict[T, T] = {}

    def root(node: T) -> T:
        while (above := parent.get(node, node)) != node:
            parent[node] = above = parent.get(above, above)
            node = above
        return node

    for pair in pairs:
        first, second = sorted(root(node) for node in pair)
        if first != second:
            parent[second] = first
    return {node: root(node) for node in nodes}
