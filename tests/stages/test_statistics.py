"""Intervals of shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.stages._lm.statistics import wilson_interval


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
