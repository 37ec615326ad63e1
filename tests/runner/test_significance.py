"""Paired differences: against scipy's own tests, against counting by hand, and what may be said of them."""

from __future__ import annotations

from itertools import product
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import significance
from kpod.runner.significance import corrected, holm, mcnemar, paired, sign_flip

SHARES = st.integers(-500, 500).map(lambda correct: correct / 500)


@settings(max_examples=50)
@given(st.lists(SHARES, min_size=2, max_size=12))
def test_interval_and_t_test_are_those_of_scipy(differences: list[float]) -> None:
    from scipy import stats

    if len(set(differences)) == 1:
        return
    found = paired(differences)
    theirs = stats.ttest_1samp(differences, 0)
    interval = theirs.confidence_interval(0.95)

    assert found.mean == pytest.approx(sum(differences) / len(differences), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.p_t == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    assert found.sd == pytest.approx(stats.tstd(differences), rel=1e-9)


@settings(max_examples=50)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9))
def test_the_sign_flip_test_counts_every_pattern(correct: list[int]) -> None:
    observed = abs(sum(correct))
    sums = [
        sum(sign * each for sign, each in zip(signs, correct, strict=True))
        for signs in product((1, -1), repeat=len(correct))
    ]

    found = sign_flip([each / 500 for each in correct])

    assert found.is_exact
    assert found.p == sum(abs(total) >= observed for total in sums) / len(sums)


def test_the_sign_flip_test_is_that_of_scipy() -> None:
    from scipy import stats

    differences = [0.031, 0.012, -0.004, 0.022, 0.017, 0.009, -0.011, 0.026]
    theirs = stats.permutation_test(
        (differences,), lambda row, axis: row.sum(axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=inf,
    )  # fmt: skip

    assert sign_flip(differences).p == pytest.approx(theirs.pvalue)


def test_equal_differences_reach_the_smallest_p_that_so_many_seeds_allow() -> None:
    assert [sign_flip([0.01] * n).p for n in (1, 2, 5, 8)] == [1, 2 / 4, 2 / 32, 2 / 256]


def test_twenty_differences_are_counted_and_twenty_one_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    differences = [0.01 * (index % 5 - 1) for index in range(20)]
    exact = sign_flip(differences)
    drawn = sign_flip([*differences, 0.0])
    assert (exact.is_exact, drawn.is_exact) == (True, False)
    # a difference of 0 changes no sum: 4 standard errors of 100,000 draws
    assert drawn.p == pytest.approx(exact.p, abs=4 * (exact.p / 100_000) ** 0.5)

    monkeypatch.setattr(significance, "NUM_DRAWS", 100)
    again = sign_flip([0.01] * 21, seed=3)
    assert again == sign_flip([0.01] * 21, seed=3)
    assert again.p == 1 / 101
    assert "(100 draws)" in paired([0.01] * 20 + [0.02]).figures()


def test_fewer_than_five_seeds_name_no_winner() -> None:
    told = paired([0.02, 0.021, 0.019, 0.02]).sentence("standard", "kpod")

    assert told.startswith("4 seeds: no claim about kpod against standard, 5 seeds needed: mean")
    assert paired([0.02]).sentence("standard", "kpod") == (
        "1 seed: no claim about kpod against standard, 5 seeds needed: mean difference +2.00 points, n = 1 seed"
    )


def test_an_interval_that_holds_zero_names_no_winner() -> None:
    found = paired([0.03, -0.02, 0.01, -0.01, 0.02])

    assert not found.is_claim
    assert found.sentence("standard", "kpod") == (
        "no winner between standard and kpod, the interval holds 0: mean difference +0.60 points (sd 2.07), "
        "95 % t interval [-1.97, +3.17], t p = 0.5529, sign-flip p = 0.6875 (exact), n = 5 seeds"
    )


def test_a_winner_is_named_whichever_side_it_stands_on() -> None:
    gains = [0.03, 0.02, 0.01, 0.03, 0.02]

    assert paired(gains).sentence("a", "b").startswith("b is better than a: mean difference +2.20")
    turned = paired([-gain for gain in gains])
    assert turned.sentence("a", "b").startswith("a is better than b: mean difference -2.20")


def test_a_correction_can_take_a_claim_away_and_says_so() -> None:
    weak = paired([0.04, 0.01, 0.02, 0.005, 0.03])
    assert weak.is_claim
    family = corrected([weak, *[paired([0.01, -0.01, 0.02, 0.0, -0.02])] * 4])

    assert [each.family for each in family] == [5] * 5
    assert weak.p_t is not None
    assert family[0].p_holm == pytest.approx(5 * weak.p_t)
    told = family[0].sentence("standard", "kpod")
    assert told.startswith("no winner between standard and kpod after the correction for 5")
    assert "; Holm over 5: t p = " in told


def test_without_any_spread_there_is_no_t_test_and_no_winner() -> None:
    same = paired([0.3 - 0.2, 0.5 - 0.4, 0.1, 0.1, 0.1])
    assert (same.sd, same.p_t, same.is_claim) == (0, None, False)
    assert same.sentence("a", "b") == (
        "no winner between a and b, all differences are the same, so there is no t test: mean difference +10.00 points "
        "(sd 0.00), 95 % t interval [+10.00, +10.00], t p unknown, sign-flip p = 0.0625 (exact), n = 5 seeds"
    )
    nothing = paired([0.0] * 5)
    assert (nothing.p_t, nothing.p_flip, nothing.is_claim) == (1, 1, False)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_orders_and_never_lowers(p_values: list[float]) -> None:
    found = holm(p_values)

    assert all(after >= before for before, after in zip(p_values, found, strict=True))
    assert all(p <= 1 for p in found)
    order = sorted(range(len(found)), key=lambda index: p_values[index])
    assert [found[index] for index in order] == sorted(found)


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_less() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 3), (1, 9), (20, 5), (0, 12)])
def test_mcnemar_is_the_binomial_test_of_scipy(only_a: int, only_b: int) -> None:
    from scipy import stats

    theirs = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(theirs)


@pytest.mark.parametrize("differences", [[], [0.1, nan], [inf]])
def test_nothing_or_no_number_is_refused(differences: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one finite difference"):
        paired(differences)


def test_as_many_seeds_as_needed_tell_the_difference_four_times_in_five() -> None:
    import numpy as np
    from scipy import stats

    needed = significance.seeds_needed(0.02, 0.03)
    assert needed is not None
    draws = np.random.default_rng(0).normal(0.02, 0.03, size=(2000, needed))
    told = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)

    assert 0.75 < told < 0.88
    assert significance.seeds_needed(0.0, 0.03) is None
    assert significance.seeds_needed(0.5, 0.001) == significance.SEEDS_NEEDED
