"""Our statistics beside scipy's own, on a thousand random tables of two students' verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kpod.runner.significance import holm, mcnemar, paired
from kpod.stages._lm.statistics import wilson_interval

NUM_TABLES = 1000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tables() -> list[tuple[int, int, int, int]]:
    """(both right, only A, only B, both wrong), small and large, lopsided and even."""
    draws = np.random.default_rng(20261122)
    found = []
    for _ in range(NUM_TABLES):
        n = int(draws.integers(1, 2000))
        shares = draws.dirichlet(draws.uniform(0.05, 5, size=4))
        found.append(tuple(map(int, draws.multinomial(n, shares))))
    return found  # type: ignore[return-value]


def test_the_exact_mcnemar_test_is_the_binomial_one(
    tables: list[tuple[int, int, int, int]],
) -> None:
    for _, only_a, only_b, _ in tables:
        expected = stats.binomtest(only_b, only_a + only_b).pvalue if only_a + only_b else 1.0
        assert mcnemar(only_a, only_b) == pytest.approx(
            expected, rel=1e-9, abs=1e-200
        )  # scipy underflows


def test_the_intervals_of_both_accuracies_are_wilsons(
    tables: list[tuple[int, int, int, int]],
) -> None:
    for both, only_a, only_b, neither in tables:
        n = both + only_a + only_b + neither
        for right in (both + only_a, both + only_b):
            expected = stats.binomtest(right, n).proportion_ci(method="wilson")
            assert wilson_interval(right, n) == pytest.approx(tuple(expected), abs=1e-9)


def test_holms_correction_is_its_definition(tables: list[tuple[int, int, int, int]]) -> None:
    p_values = [mcnemar(only_a, only_b) for _, only_a, only_b, _ in tables]
    for start in range(0, NUM_TABLES, 10):
        family = np.array(p_values[start : start + 10])
        order = np.argsort(family, kind="stable")
        steps = (len(family) - np.arange(len(family))) * family[order]
        expected = np.empty_like(family)
        expected[order] = np.minimum(1, np.maximum.accumulate(steps))
        assert holm(list(family)) == pytest.approx(expected, rel=1e-12)


def test_the_difference_over_seeds_is_tested_as_scipy_tests_it(
    tables: list[tuple[int, int, int, int]],
) -> None:
    differences = [
        (only_b - only_a) / (sum(table) or 1)
        for table in tables
        for _, only_a, only_b, _ in [table]
    ]
    for start in range(0, NUM_TABLES, 5):
        five = differences[start : start + 5]
        found, theirs = paired(five), stats.ttest_1samp(five, 0)
        interval = theirs.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
        assert found.p_t == pytest.approx(theirs.pvalue, rel=1e-6)
        flips = stats.permutation_test((five,), lambda row, axis: row.sum(axis=axis), permutation_type="samples", vectorized=True)  # fmt: skip
        assert found.p_flip == pytest.approx(flips.pvalue, abs=1e-12)
