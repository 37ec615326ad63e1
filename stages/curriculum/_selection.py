"""Which rationales get harder at one stage: the knapsack of KPOD eq. 13, solved to half of the optimum in near-linear time.

Wanted is the set S of cost(S) = sum of delta_i <= budget with the largest G(S) = cost(S) + beta * sum_k sqrt(|C_k & S|), which is
eq. 12 but for the constant budget. The paper uses FTGP (Li, Feldman, Kazemi and Karbasi 2022; guarantee 1/2 - epsilon); its
pseudo-code was not to be had. In its place stands Greedy+Max (Yaroslavtsev, Zhou and Avdiukhin 2020, arXiv 1910.05646): greedy by
density (gain / cost) among what still fits, and, beside every set on its way, that set with the best single item added; the best
set seen wins. That paper could not be read either, so here is a proof that G(winner) >= G(O) / 2 for an optimal set O:

  Free items come first and never hurt, so let all costs be > 0. Let o be the costliest item of O, c its cost, V the winner's value, and
  suppose V < G(O) / 2. While greedy's set A costs at most budget - c, (1) A + o fits, so G(A + o) <= V, and the rest of O must gain more than
  G(O) - V > G(O) / 2 on top of it, hence also on top of A (diminishing returns); (2) each item of O still fits, so greedy's next item has at
  least the density of the best of that rest, whose cost is at most budget - c: more than G(O) / (2 * (budget - c)). The item that takes greedy
  past budget - c fits too (greedy looks at nothing else), so by then it has gained more than G(O) / 2: a contradiction. (Where
  budget = c, O is o, and (1) says it for the empty set.)

What makes it near-linear: in a cluster the gain of the count falls with the rank whatever the items, so the best density is that of
the cheapest item left (a heap of one item a cluster), and the best item to add is the costliest that fits (bisect).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import NamedTuple


def diversity(counts: Sequence[int]) -> float:
    """Sum of the square roots of how many items each cluster has: the diversity of a set (KPOD eq. 12)."""
    return math.fsum(map(math.sqrt, counts))


def set_value(
    chosen: Sequence[int],
    costs: Sequence[float],
    clusters: Sequence[int],
    *,
    budget: float,
    beta: float,
) -> float:
    """F of KPOD eq. 12: minus the budget left unspent, plus beta times the diversity; in nats.

    Args:
        chosen: indices of the items in the set.
        costs: nats of every item, >= 0.
        clusters: the cluster of every item.
        budget: nats; Delta D(t) in the paper.
        beta: nats, >= 0.
    """
    spent = math.fsum(costs[index] for index in chosen)
    counts = Counter(clusters[index] for index in chosen)
    return spent - budget + beta * diversity(list(counts.values()))


def select(
    costs: Sequence[float], clusters: Sequence[int], *, budget: float, beta: float
) -> list[int]:
    """A set that fits the budget and is worth at least half of the best (see above); nothing that fits is left out.

    Args:
        costs: nats of every item, >= 0.
        clusters: the cluster of every item.
        budget: nats that the set may cost, >= 0.
        beta: nats, >= 0: weight of the diversity.

    Returns:
        Indices, ascending. Equal input gives equal output; among equals the cheaper goes first, then the lower index.
    """
    if beta == 0:
        clusters = [0] * len(costs)  # they do not count, not even among equals
    members = _sorted_members(costs, clusters)
    walk = _greedy(members, costs, clusters, budget=budget, held=(), alone=None)
    better = _best_addition(walk, costs, clusters, members, budget=budget, beta=beta)
    if better is None:
        return sorted(walk)
    # Monotone: filling up what the better set leaves of the budget can only add to its value.
    held = walk[: better.num_before]
    return sorted(_greedy(members, costs, clusters, budget=budget, held=held, alone=better.item))


def _gain(count: int) -> float:
    """What one more item adds to the square root of a cluster's count: sqrt(a + 1) - sqrt(a), without cancellation."""
    return 1 / (math.sqrt(count + 1) + math.sqrt(count))


@dataclass(frozen=True, slots=True)
class _Members:
    """The items of one cluster, the cheapest first."""

    items: list[int]
    costs: list[float]


def _sorted_members(costs: Sequence[float], clusters: Sequence[int]) -> dict[int, _Members]:
    members = {cluster: _Members([], []) for cluster in sorted(set(clusters))}
    for item in sorted(range(len(costs)), key=costs.__getitem__):  # stable: equals by index
        group = members[clusters[item]]
        group.items.append(item)
        group.costs.append(costs[item])
    return members


def _greedy(
    members: Mapping[int, _Members],
    costs: Sequence[float],
    clusters: Sequence[int],
    *,
    budget: float,
    held: Sequence[int],
    alone: int | None,
) -> list[int]:
    """Density greedy: the items held, then the densest that still fits, until none does.

    Density is 1 + beta * gain / cost with the gain of the item's rank in its cluster. The 1 and beta change no order (with
    beta = 0 any order is one of falling density), so they are left out. A heap of one item a cluster is enough; where the
    cheapest of a cluster does not fit, none of it ever will.

    Args:
        members: the items by cluster, the cheapest first.
        costs: nats of every item.
        clusters: of every item.
        budget: of the whole set.
        held: an earlier walk's first items.
        alone: one item that is taken beside them, out of turn; ranks do not count it.

    Returns:
        Indices in the order in which they were taken.
    """
    taken = [*held] if alone is None else [*held, alone]
    left = budget - sum(costs[item] for item in taken)
    ranks = Counter(clusters[item] for item in held)
    heads = [_head(group, cluster, ranks[cluster]) for cluster, group in members.items()]
    heap = [head for head in heads if head is not None]
    heapify(heap)
    while heap:
        _, cost, item, cluster, rank = heappop(heap)
        if item != alone:
            if cost > left:
                continue
            taken.append(item)
            left -= cost
        follower = _head(members[cluster], cluster, rank + 1)
        if follower is not None:
            heappush(heap, follower)
    return taken


def _head(group: _Members, cluster: int, rank: int) -> tuple[float, float, int, int, int] | None:
    """The heap's entry for the item of this rank: the densest first, then the cheapest, then the lowest index."""
    if rank == len(group.items):
        return None
    cost = group.costs[rank]
    return -math.inf if cost == 0 else -_gain(rank) / cost, cost, group.items[rank], cluster, rank


class _Addition(NamedTuple):
    """A set better than greedy's: its first items, and one more."""

    num_before: int
    item: int


def _best_addition(
    walk: Sequence[int],
    costs: Sequence[float],
    clusters: Sequence[int],
    members: Mapping[int, _Members],
    *,
    budget: float,
    beta: float,
) -> _Addition | None:
    """The best prefix of greedy's walk with one more item, or None where the whole walk is worth as much.

    Goes from the end of the walk to its beginning and stops where no earlier prefix can win: one more item brings a set to
    at most budget + beta * (its diversity + the largest gain of a cluster), which falls towards the beginning.
    """
    counts = Counter(clusters[item] for item in walk)
    spent_at = [0.0]
    for item in walk:
        spent_at.append(spent_at[-1] + costs[item])
    spread = diversity(list(counts.values()))
    best_value = spent_at[-1] + beta * spread
    best: _Addition | None = None
    for num_before in range(len(walk) - 1, -1, -1):
        last = clusters[walk[num_before]]
        counts[last] -= 1
        spread -= _gain(counts[last])
        spent = spent_at[num_before]
        largest_gain = max(_gain(counts[cluster]) for cluster in members)
        if budget + beta * (spread + largest_gain) <= best_value:
            break
        for cluster, group in members.items():
            place = bisect_right(group.costs, budget - spent) - 1
            if place < counts[cluster]:
                continue  # all that fit are in the prefix, which holds a cluster's cheapest
            value = spent + group.costs[place] + beta * (spread + _gain(counts[cluster]))
            if value > best_value:
                best_value, best = value, _Addition(num_before, group.items[place])
    return best
