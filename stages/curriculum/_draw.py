"""A random set under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random


def draw(costs: Sequence[float], *, budget: float, stream: Random) -> list[int]:
    """Walks the items in random order and takes each that still fits, so that no item that fits is left out.

    Args:
        costs: of every item, >= 0.
        budget: what the set may cost, >= 0.
        stream: where the order comes from.

    Returns:
        Indices, ascending.
    """
    order = list(range(len(costs)))
    stream.shuffle(order)
    taken, left = [], budget
    for item in order:
        if costs[item] <= left:
            taken.append(item)
            left -= costs[item]
    return sorted(taken)
