"""Student's t distribution beside scipy's, and where its values are known on paper."""

from __future__ import annotations

from math import atan, pi, sqrt
from random import Random

import pytest

from kpod.runner.t_distribution import reach, two_tails

NUM_TABLES = 1000


def test_the_tails_are_those_of_scipy_on_a_thousand_tables() -> None:
    from scipy import stats

    draws = Random(20261130)
    for _ in range(NUM_TABLES):
        freedom, t = draws.randint(1, 200), 10 ** draws.uniform(-6, 3)
        # scipy's own tail is off by 3e-11 next to 0.
        assert two_tails(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-10)


def test_the_quantiles_are_those_of_scipy_on_a_thousand_tables() -> None:
    from scipy import stats

    draws = Random(20261130)
    for _ in range(NUM_TABLES):
        freedom, share = draws.randint(1, 200), 10 ** draws.uniform(-8, -0.001)
        assert reach(share, freedom) == pytest.approx(stats.t.isf(share / 2, freedom), rel=1e-10)


@pytest.mark.parametrize("t", [0.0, 1e-9, 0.3, 1.0, 12.706204736, 1e6, 1e300])
def test_one_and_two_degrees_of_freedom_are_those_on_paper(t: float) -> None:
    # An arc of a circle, and a root: the two that have no series (Abramowitz and Stegun 26.7.3 and 26.7.4).
    one = 1 - 2 * atan(t) / pi if t < 1 else 2 * atan(1 / t) / pi

    assert two_tails(t, 1) == pytest.approx(one, rel=1e-13)
    if t < 1e6:  # beyond that 1 less the root is rounded to nothing
        assert two_tails(t, 2) == pytest.approx(1 - t / sqrt(2 + t * t), rel=1e-9)


def test_ten_thousand_degrees_of_freedom_are_nearly_the_normal_distribution() -> None:
    from scipy import stats

    assert two_tails(1.959964, 10_000) == pytest.approx(2 * stats.t.sf(1.959964, 10_000), rel=1e-10)
    assert reach(0.05, 10_000) == pytest.approx(stats.t.isf(0.025, 10_000), rel=1e-10)


def test_everything_is_at_least_nothing_away() -> None:
    assert two_tails(0.0, 4) == 1.0


def test_the_tails_of_a_quantile_are_its_share() -> None:
    assert two_tails(reach(0.05, 4), 4) == pytest.approx(0.05, rel=1e-14)
