"""Intervals, majority votes and pass@k."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.stages._lm.statistics import majority, pass_at_k, wilson_interval


def test_wilson_interval_equals_the_published_values() -> None:
    # Newcombe 1998 (Statistics in Medicine 17, table I), score method without continuity correction.
    known = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }

    found = {case: tuple(round(bound, 4) for bound in wilson_interval(*case)) for case in known}

    assert found == known


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_in_bounds(case: tuple[int, int]) -> None:
    num_correct, n = case

    low, high = wilson_interval(num_correct, n)

    assert 0 <= low <= num_correct / n + 1e-12
    assert num_correct / n - 1e-12 <= high <= 1


def test_wilson_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 of 0; needed"):
        wilson_interval(0, 0)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(
    verdicts: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(verdicts)))
    subsets = list(combinations(verdicts, k))

    expected = sum(any(subset) for subset in subsets) / len(subsets)

    # Both are ratios of small whole numbers; only the last bit may differ.
    assert pass_at_k(len(verdicts), sum(verdicts), k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_more_samples_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="got 1 correct of 2 samples and k = 3"):
        pass_at_k(2, 1, 3)


def test_majority_takes_the_first_of_equals_and_ignores_missing_answers() -> None:
    votes = [None, "8", "7", "7", "8", None, None]

    assert majority(votes) == "8"
    assert majority([None, None]) is None
