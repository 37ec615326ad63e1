"""The words of a sweep: its axes, their values, the combinations, and the mean of an arm over seeds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import KpodError, RecipeError
from kpod.runner.matrix import MAX_CELLS, parse_axis, parse_matrix, split_values
from kpod.runner.seeds import Series
from kpod.runner.sweeping import figure_of

EPOCHS = "stages.long.with.epochs"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-4,3e-4", ["1e-4", "3e-4"]),
        ("[a, b],[c]", ["[a, b]", "[c]"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("{a: [1, 2], b: 'x,]'},null", ["{a: [1, 2], b: 'x,]'}", "null"]),
        ("it's,2", ["it's", "2"]),
    ],
)
def test_values_end_at_commas_outside_quotes_and_brackets(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=6))
def test_values_of_an_axis_are_those_given_each_once_in_order(numbers: list[int]) -> None:
    axis = parse_axis("a.b=" + ",".join(map(str, numbers)))

    assert list(dict.fromkeys(map(str, numbers))) == list(axis.values)


def test_a_range_is_its_whole_numbers_and_equal_values_count_once() -> None:
    assert parse_axis("a=-1..2,7").values == ("-1", "0", "1", "2", "7")
    assert parse_axis("a=1e-4,0.0001,1").values == ("1e-4", "1")
    assert parse_axis("a=1,1.0,true").values == ("1", "1.0", "true")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing is swept\nallowed: seed=0..4"),
        (["a"], "got 'a'\nallowed: seed="),
        (["a="], "got 'a='"),
        (["a=1,,2"], "a value that is empty\nwrite null for no value"),
        (["a=3..1"], r"where 3..1 runs backwards\nallowed: 1..3"),
        (["a=1,2", "a=3"], "a is swept 2 times\nname it once"),
        (["a=1..40", "b=1..40"], rf"the sweep has 1,600 runs\nallowed: up to {MAX_CELLS:,}"),
        (["a=1..99999999999"], "99,999,999,999 values"),
        (["seed=4..1"], r"allowed: seed=0\.\.4 or seed=0,3,7"),
        (["s=1"], "s is swept and set\ndrop --set s="),
    ],
)
def test_words_that_are_no_matrix_are_refused(words: list[str], told: str) -> None:
    with pytest.raises(KpodError, match=told):
        parse_matrix(words, settings=["s=2"])


def test_a_value_that_set_would_not_take_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"got '\[1', which is no value"):
        parse_axis("a=[1")


def test_combinations_are_the_product_with_short_names() -> None:
    matrix = parse_matrix(["stages.a.with.x=1,2", "seed=3,4", "stages.b.with.x=5"])

    assert [each.label for each in matrix.combinations()] == ["a.x=1 b.x=5", "a.x=2 b.x=5"]
    assert [cell.name for cell in matrix.cells(own_seed=9)] == [
        "a.x=1 b.x=5 seed 3",
        "a.x=1 b.x=5 seed 4",
        "a.x=2 b.x=5 seed 3",
        "a.x=2 b.x=5 seed 4",
    ]
    assert [cell.name for cell in parse_matrix(["a.x=1"]).cells(own_seed=9)] == ["x=1 seed 9"]


def test_the_mean_of_an_arm_has_the_t_interval_of_its_seeds() -> None:
    series = Series(
        name="a", evaluation="e", arm="a", accuracies=dict(enumerate([0.5, 0.6, 0.7, 0.6]))
    )

    figure = figure_of(series)

    assert figure is not None
    assert figure.mean == pytest.approx(0.6)
    assert figure.sd == pytest.approx(0.0816497)
    assert figure.low == pytest.approx(0.6 - 3.182446 * 0.0816497 / 2)
    assert figure_of(Series(name="a", evaluation="e", arm="a")) is None
