"""Which cluster of one run is which of another: beside scipy, beside all ways there are, and under other names."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner.comparing.renaming import cheapest, names_in_a

SQUARES = st.integers(0, 7).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(-9, 9), min_size=size, max_size=size), min_size=size, max_size=size
    )
)
CLUSTERS = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 4))


@settings(max_examples=200)
@given(SQUARES)
def test_no_choice_is_cheaper_than_that_of_scipy(costs: list[list[int]]) -> None:
    from scipy.optimize import linear_sum_assignment

    found = cheapest(costs)

    assert sorted(found) == list(range(len(costs)))
    if costs:
        rows, columns = linear_sum_assignment(costs)
        least = sum(costs[row][column] for row, column in zip(rows, columns, strict=True))
        assert sum(costs[row][column] for row, column in enumerate(found)) == least


@settings(max_examples=200)
@given(CLUSTERS, CLUSTERS)
def test_as_many_questions_as_can_be_keep_their_cluster(
    a: dict[str, int], b: dict[str, int]
) -> None:
    names = names_in_a(a, b)

    assert sorted(names) == sorted(set(b.values()))
    assert len(set(names.values())) == len(names)
    kept = sum(names[b[key]] == a[key] for key in a if key in b)
    most = max(
        sum(dict(zip(sorted(names), way, strict=True))[b[key]] == a[key] for key in a if key in b)
        for way in permutations(range(5), len(names))
    )
    assert kept == most


@given(st.permutations(range(5)), CLUSTERS)
def test_other_numbers_alone_are_seen_through(order: list[int], a: dict[str, int]) -> None:
    b = {key: order[cluster] for key, cluster in a.items()}
    names = names_in_a(a, b)

    assert {key: names[cluster] for key, cluster in b.items()} == a


def test_a_choice_that_takes_the_largest_overlap_first_would_keep_fewer() -> None:
    # Overlaps: A0 with B0 5, A0 with B1 4, A1 with B0 4. Largest first: 5. Best: 8.
    pairs = [(0, 0)] * 5 + [(0, 1)] * 4 + [(1, 0)] * 4
    a = {str(number): pair[0] for number, pair in enumerate(pairs)}
    b = {str(number): pair[1] for number, pair in enumerate(pairs)}

    assert names_in_a(a, b) == {0: 1, 1: 0}


def test_a_cluster_that_a_lacks_gets_a_number_that_a_lacks() -> None:
    assert names_in_a({"q": 0, "r": 7}, {"q": 1, "r": 2, "s": 7}) == {1: 0, 2: 7, 7: 8}


def test_of_equally_good_ways_numbers_stay_as_they_are() -> None:
    assert names_in_a({"q": 0, "r": 1}, {"s": 0, "t": 1}) == {0: 0, 1: 1}


def test_a_hundred_clusters_are_found_again() -> None:
    a = {str(number): number % 100 for number in range(2000)}
    b = {key: (cluster * 37 + 11) % 100 for key, cluster in a.items()}

    names = names_in_a(a, b)

    assert all(names[b[key]] == cluster for key, cluster in a.items())
