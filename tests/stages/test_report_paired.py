"""Pairs of arms, question by question, and how their figures are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import holm, mcnemar
from kpod.stages.report._formats import count, duration, p_value, percent
from kpod.stages.report._paired import compare_arms


@pytest.mark.parametrize(
    ("num_fixed", "num_broken", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (10, 2, 0.038574), (6, 6, 1.0), (0, 12, 0.000488)],
)
def test_mcnemar_is_the_exact_binomial_test(num_fixed: int, num_broken: int, p: float) -> None:
    # Golden values of scipy.stats.binomtest(b, b + c, 0.5).pvalue, to six digits.
    assert mcnemar(num_fixed, num_broken) == pytest.approx(p, abs=5e-7)


@given(st.integers(0, 120), st.integers(0, 120))
def test_mcnemar_is_a_probability_and_does_not_care_which_arm_is_first(b: int, c: int) -> None:
    assert 0 < mcnemar(b, c) <= 1
    assert mcnemar(b, c) == mcnemar(c, b)


def test_holm_steps_down_and_never_below_an_earlier_one() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_pairs_are_joined_by_question_and_leave_out_those_without_gold() -> None:
    verdicts: dict[str, dict[str, bool | None]] = {
        "a": {"q1": True, "q2": False, "q3": None, "q4": False},
        "b": {"q4": True, "q3": True, "q2": True, "q1": False, "q5": True},
    }
    (pair,) = compare_arms(verdicts, [])
    assert (pair.n, pair.num_fixed, pair.num_broken) == (3, 2, 1)


def test_many_arms_are_each_compared_with_the_first() -> None:
    verdicts: dict[str, dict[str, bool | None]] = {
        name: {"q": name != "a"} for name in ("a", "b", "c", "d", "e")
    }
    pairs = compare_arms(verdicts, ["a", "c"])
    assert [(pair.baseline, pair.other, pair.is_primary) for pair in pairs] == [
        ("a", "c", True), ("a", "b", False), ("a", "d", False), ("a", "e", False),
    ]  # fmt: skip


def test_a_primary_pair_is_listed_once_whatever_the_order_of_the_recipe() -> None:
    verdicts: dict[str, dict[str, bool | None]] = {name: {"q": True} for name in ("base", "b", "a")}
    pairs = compare_arms(verdicts, ["a", "b"])
    assert [(pair.baseline, pair.other) for pair in pairs] == [
        ("a", "b"), ("base", "b"), ("base", "a"),
    ]  # fmt: skip


def test_figures_are_written_for_people() -> None:
    shown = [percent(7 / 12), duration(0.031), duration(75.2), duration(3599.9), duration(7500)]
    assert [text.replace("\u00a0", " ") for text in shown] == [
        "58.3 %", "0.03 s", "1 min 15 s", "1 h 00 min", "2 h 05 min",
    ]  # fmt: skip
    assert [count(12345), count(0.5), count(3.0)] == ["12,345", "0.5", "3"]
    assert p_value(0.0004).replace("\u00a0", " ") == "p < 0.001"
