"""Which written calculations are read, which hold, and how seldom people's are called wrong."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.stages.filter._arithmetic import equations, first_wrong

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
# A calculator mark with an operator in it, and the result that is printed after it.
PRINTED = re.compile(
    r"=\s*\$?\s*<<[^<>=\n]*[-+*/][^<>=\n]*=[^<>\n]*>>\s*\$?([0-9][0-9,]*(?:\.[0-9]+)?)"
)


def gsm8k_solutions() -> list[str]:
    path = SHARED / "gsm8k" / "train.jsonl"
    if not path.exists():
        pytest.skip("needs shared/data/gsm8k/train.jsonl beside the checkout")
    return [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        "16 - 3 - 4 = 9",
        "He pays 3 * $4 = $12.",
        "48/2 = <<48/2=24>>24 clips",
        "2 x 3 = 6 and 5 × 4 = 20 and 8 ÷ 2 = 4",
        "$1,200 + $800 = $2,000",
        "(3 + 4) * 2 = 14",
        "2(3 + 4) = 14",
        "1/2 of 48 = 24",
        "20% of 50 = 10",
        "20/50 = 40%",
        "20/50 * 100 = 40%",
        "100% - 20% = 80%",
        "120 + 10% = 132",
        "10 / 3 = 3.33",
        "2 / 3 = 0.67",
        "60 / 3/4 = 80",
        "2 1/2 * 4 = 10",
        "-5 + 8 = 3",
        "5 - 8 = -3",
        "3 apples + 5 apples = 8 apples",
        "600 ml / 150 ml/serving = 4 servings",
        "a total of 3 boxes x 4 toys = 12 toys",
        "12-gallon tank: 12*3.5 = 42 dollars",
        "5 + 3 = 8 * 2 = 16",
        r"\[ \frac{1}{2} \times 48 = 24 \]",
        r"16 \text{ eggs} - 7 \text{ eggs} = 9 \text{ eggs}",
        "- 6 cups of sugar + 14 cups of flour = 20 cups",
        "18 = 9 * 2",
    ],
)
def test_a_true_equation_is_read_and_holds(text: str) -> None:
    found = equations(text)
    assert found
    assert first_wrong(text) is None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("16 - 3 - 4 = 8", "16 - 3 - 4 = 8"),
        ("He pays 3 * $4 = $12, so 20 - 12 = $9 are left.", "20 - 12 = $9"),
        ("5 + 3 = 8 = 4 * 3", "8 = 4 * 3"),
        ("20% of 50 = 11", "20% of 50 = 11"),
        ("10 / 3 = 3.34", "10 / 3 = 3.34"),
        ("She has 48/2 = <<48/2=24>>25 clips", "48/2 = <<48/2=24>>25"),
        ("a total of 13+4 = 77 steaks", "13+4 = 77"),
        ("24 miles / 3 miles per hour = 6 hours", "24 miles / 3 miles per hour = 6"),
        (r"\( 3 \times 4 = 13 \)", r"3 \times 4 = 13"),
    ],
)
def test_a_false_equation_is_found_with_its_place(text: str, wrong: str) -> None:
    found = first_wrong(text)
    assert found is not None
    assert text[slice(*found.span)] == wrong


@pytest.mark.parametrize(
    "text",
    [
        "2x + 3 = 7",
        "x = 5",
        "3 boxes = 5 * 2",
        "Day 2 * 3 = 7",
        "half of 10 + 5 = 15",
        "17 / 3 = 5 remainder 2",
        "17 / 3 = 5 and 2/3",
        "2 * 60 minutes = 2 hours",
        "5 * 20 cents = $1",
        "144 ÷ X = 3",
        "10:30 + 2 = 12:30",
        "2 * 500,000 = 1 million",
        "5 + the cost of 3 = 9",
        "(1) + 2 of her kids + 10 = 20",
        "14, 400 / 80 = 180",
        "a >= 3 * 4 => 5",
        "1/0 + 2 = 3",
        "1 = 2",
        "= 5",
        "3 + 4 =",
        "9" * 5000 + " + 1 = 2",
    ],
)
def test_what_cannot_be_read_with_certainty_is_not_flagged(text: str) -> None:
    assert first_wrong(text) is None


@given(st.text(alphabet="0123456789+-*/()=%$., \nxaof", max_size=80))
def test_the_check_ends_without_error_on_any_text(text: str) -> None:
    for equation in equations(text):
        assert 0 <= equation.span[0] < equation.span[1] <= len(text)


@given(
    st.lists(st.integers(1, 99), min_size=2, max_size=5),
    st.lists(st.sampled_from("+-*"), min_size=4, max_size=4),
    st.integers(-3, 3),
)
def test_integer_equations_hold_exactly_when_both_sides_are_equal(
    numbers: list[int], signs: list[str], error: int
) -> None:
    left = str(numbers[0]) + "".join(
        f" {sign} {number}" for sign, number in zip(signs, numbers[1:], strict=False)
    )
    value = eval(left)  # our own digits and signs, as an independent calculator
    found = equations(f"So it is {left} = {value + error} in all.")
    assert [error == 0] == [equation.holds for equation in found]


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_at_most_one_human_solution_in_a_hundred_is_flagged(every: int) -> None:
    solutions = gsm8k_solutions()[::every]
    flagged = [solution for solution in solutions if first_wrong(solution)]
    # Measured: 29 of 7,473 (0.4 %). Judged by hand: 25 wrong as printed, 2 rounded, 2 misread. The goal was at most 3 %.
    assert len(flagged) <= 0.01 * len(solutions)


def test_most_corrupted_results_of_human_solutions_are_flagged() -> None:
    rng = random.Random(7)
    solutions = [s for s in rng.sample(gsm8k_solutions(), 500) if PRINTED.search(s)]
    found = tried = 0
    for solution in solutions:
        if first_wrong(solution):
            continue
        printed = rng.choice(list(PRINTED.finditer(solution)))
        result = printed[1]
        place = rng.choice([i for i, char in enumerate(result) if char.isdigit()])
        digit = rng.choice([d for d in "123456789" if d != result[place]])
        corrupted = result[:place] + digit + result[place + 1 :]
        tried += 1
        found += (
            first_wrong(solution[: printed.start(1)] + corrupted + solution[printed.end(1) :])
            is not None
        )
    # Measured: 97 %. The goal was 90 %.
    assert found >= 0.93 * tried
