"""The set that moves at one stage: feasible, worth half of the best, and found in near-linear time."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.stages.curriculum import _selection
from kpod.stages.curriculum._selection import select, set_value

Wrong = Callable[[Sequence[float], Sequence[int], float, float], list[int]]


def worth(
    chosen: Sequence[int], costs: Sequence[float], clusters: Sequence[int], beta: float
) -> float:
    """G = cost + beta * sum of roots, written down a second time."""
    groups = [sum(clusters[index] == cluster for index in chosen) for cluster in set(clusters)]
    return sum(costs[index] for index in chosen) + beta * sum(count**0.5 for count in groups)


def optimum(costs: Sequence[float], clusters: Sequence[int], budget: float, beta: float) -> float:
    sets = (
        chosen for size in range(len(costs) + 1) for chosen in combinations(range(len(costs)), size)
    )
    return max(
        worth(chosen, costs, clusters, beta)
        for chosen in sets
        if sum(costs[index] for index in chosen) <= budget
    )


def by_density(
    costs: Sequence[float], clusters: Sequence[int], budget: float, beta: float
) -> list[int]:
    """The wrong algorithm: density greedy and nothing else."""
    return _plain_greedy(costs, clusters, budget, beta, power=1)


def by_value(
    costs: Sequence[float], clusters: Sequence[int], budget: float, beta: float
) -> list[int]:
    """The wrong algorithm of mistake 8.1.8: greedy by total value."""
    return _plain_greedy(costs, clusters, budget, beta, power=0)


def _plain_greedy(
    costs: Sequence[float], clusters: Sequence[int], budget: float, beta: float, *, power: int
) -> list[int]:
    chosen: list[int] = []
    while True:
        now = worth(chosen, costs, clusters, beta)
        left = budget - sum(costs[index] for index in chosen)
        fitting = [i for i in range(len(costs)) if i not in chosen and costs[i] <= left]
        if not fitting:
            return chosen
        chosen.append(
            max(
                fitting,
                key=lambda i: (
                    (worth([*chosen, i], costs, clusters, beta) - now) / costs[i] ** power
                ),
            )
        )


# KPOD.md, statement 18: the two sets that break the two wrong algorithms.
LITTLE_AND_LARGE: tuple[list[float], list[int], float, float] = ([0.01, 1.0], [0, 0], 1.0, 0.001)
ONE_FILLS_ALL: tuple[list[float], list[int], float, float] = (
    [1.0, *[0.1] * 10], [0, *[number % 5 for number in range(10)]], 1.0, 12.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("example", "wrong"), [(LITTLE_AND_LARGE, by_density), (ONE_FILLS_ALL, by_value)]
)
def test_statement_18_the_sets_that_break_the_wrong_algorithms_do_not_break_ours(
    example: tuple[list[float], list[int], float, float], wrong: Wrong
) -> None:
    costs, clusters, budget, beta = example
    best = optimum(costs, clusters, budget, beta)

    assert worth(wrong(costs, clusters, budget, beta), costs, clusters, beta) < 0.5 * best
    assert worth(select(costs, clusters, budget=budget, beta=beta), costs, clusters, beta) == (
        pytest.approx(best, rel=1e-12)
    )


def test_statement_18_on_random_sets_ours_is_feasible_and_worth_half_of_the_best() -> None:
    stream = random.Random(0)
    ratios = []
    for _ in range(400):
        costs = [stream.choice([stream.random(), stream.random() ** 4, 0.0]) for _ in range(stream.randint(1, 9))]  # fmt: skip
        clusters = [stream.randrange(3) for _ in costs]
        beta = stream.choice([0.0, 0.001, 0.1, 1.0, 12.0])
        budget = stream.random() * sum(costs)
        chosen = select(costs, clusters, budget=budget, beta=beta)
        assert sum(costs[index] for index in chosen) <= budget
        best = optimum(costs, clusters, budget, beta)
        ratios.append(worth(chosen, costs, clusters, beta) / best if best else 1.0)

    assert min(ratios) >= 0.5


def test_statement_18_holds_for_twelve_questions_where_a_prefix_and_a_large_one_is_best() -> None:
    # Greedy takes the ten small ones, after which 0.95 does not fit; one of them and the large one are worth more.
    costs, clusters, budget, beta = [*[0.05] * 11, 0.95], [0] * 12, 1.0, 0.01

    chosen = select(costs, clusters, budget=budget, beta=beta)

    assert chosen == [0, 11]
    assert worth(chosen, costs, clusters, beta) == pytest.approx(
        optimum(costs, clusters, budget, beta), rel=1e-12
    )


def test_mistake_8_1_08_the_selection_is_not_greedy_by_total_value() -> None:
    costs, clusters, budget, beta = ONE_FILLS_ALL

    assert by_value(costs, clusters, budget, beta) == [0]
    assert select(costs, clusters, budget=budget, beta=beta) == list(range(1, 11))


sets = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        st.lists(st.floats(0, 5), min_size=size, max_size=size),
        st.lists(st.integers(0, 3), min_size=size, max_size=size),
    )
)


@given(sets, st.floats(0, 30), st.floats(0, 20))
@settings(max_examples=150)
def test_nothing_that_fits_is_left_out(
    drawn: tuple[list[float], list[int]], budget: float, beta: float
) -> None:
    costs, clusters = drawn
    chosen = select(costs, clusters, budget=budget, beta=beta)
    left = budget - sum(costs[index] for index in chosen)

    assert chosen == sorted(set(chosen))
    assert left >= -1e-12
    assert [i for i in range(len(costs)) if i not in chosen and costs[i] <= left - 1e-9] == []
    assert all(index in chosen for index, cost in enumerate(costs) if cost == 0)
    assert chosen == select(costs, clusters, budget=budget, beta=beta)


@given(sets, st.data(), st.floats(0, 20))
@settings(max_examples=150)
def test_statement_19_the_value_is_monotone_and_has_diminishing_returns(
    drawn: tuple[list[float], list[int]], data: st.DataObject, beta: float
) -> None:
    costs, clusters = drawn
    items = list(range(len(costs)))
    large = data.draw(st.sets(st.sampled_from(items)))
    small = data.draw(st.sets(st.sampled_from(sorted(large)))) if large else set()
    item = data.draw(st.sampled_from(items))

    def value(chosen: set[int]) -> float:
        return set_value(sorted(chosen), costs, clusters, budget=3.0, beta=beta)

    assert value(small) <= value(large) + 1e-9
    if item not in large:
        assert value(small | {item}) - value(small) >= value(large | {item}) - value(large) - 1e-9


def test_the_value_is_equation_12() -> None:
    costs, clusters = [1.0, 2.0, 4.0, 8.0], [0, 0, 0, 7]

    # -(10 - (1 + 2 + 8)) + 3 * (sqrt(2) + sqrt(1))
    assert set_value([0, 1, 3], costs, clusters, budget=10.0, beta=3.0) == pytest.approx(
        1 + 3 * (math.sqrt(2) + 1)
    )
    assert set_value([], costs, clusters, budget=10.0, beta=3.0) == -10.0


@given(sets, st.floats(0, 30))
def test_statement_20_without_diversity_clusters_do_not_matter(
    drawn: tuple[list[float], list[int]], budget: float
) -> None:
    costs, clusters = drawn

    assert select(costs, clusters, budget=budget, beta=0.0) == select(
        costs, [0] * len(costs), budget=budget, beta=0.0
    )


@given(st.integers(1, 6), st.integers(0, 30), st.randoms(use_true_random=False))
def test_statement_20_with_much_diversity_equal_difficulties_are_drawn_evenly(
    num_clusters: int, num_wanted: int, stream: random.Random
) -> None:
    clusters = [number % num_clusters for number in range(30 * num_clusters)]
    stream.shuffle(clusters)

    chosen = select([1.0] * len(clusters), clusters, budget=num_wanted + 0.5, beta=1000.0)

    counts = [
        sum(clusters[index] == cluster for index in chosen) for cluster in range(num_clusters)
    ]
    assert sum(counts) == num_wanted
    assert max(counts) - min(counts) <= 1


def _lines_run(work: Callable[[], Any]) -> int:
    """How many lines of the module were executed: a count that no other load on the machine changes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != _selection.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("beta", [0.0, 0.01, 12.0])
def test_statement_21_the_work_for_each_question_does_not_grow_with_their_number(
    beta: float,
) -> None:
    stream = random.Random(0)
    costs = [stream.uniform(0.2, 3.0) for _ in range(8000)]
    clusters = [stream.randrange(5) for _ in costs]

    def work_each(num_items: int) -> float:
        own = costs[:num_items]
        lines = _lines_run(
            lambda: select(own, clusters[:num_items], budget=sum(own) / 3, beta=beta)
        )
        return lines / num_items

    # About 15 lines for greedy, at most 30 more to look for one addition to each prefix; quadratic work would be thousands.
    assert max(map(work_each, (500, 2000, 8000))) < 60
