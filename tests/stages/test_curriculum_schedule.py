"""Stage by stage: the ceiling, where a schedule starts, how it moves and how it ends."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Curriculum, SettingError, StageError
from kpod.stages.curriculum._schedule import _tails, ceiling
from kpod.stages.curriculum._settings import Config
from kpod.stages.curriculum.progressive import Progressive
from kpod.stages.curriculum.random import Random
from tests.stages.curriculum_inputs import STEP, curriculum_inputs, ids, nats_lists
from tests.stages.fakes import FakeContext

NATS = [[0.7, 1.1, 0.4], [2.0, 0.3, 0.9, 1.2], [0.5], [0.8, 0.8, 0.8, 0.8, 0.8], [1.5, 0.2]]


def run(nats: Any = None, *, stage: Any = Progressive, seed: int = 0, **settings: Any) -> FakeContext[Config]:  # fmt: skip
    """The stage run on rationales with these difficulties, 10 epochs unless said."""
    config = Config(**{"epochs": 10, **settings})
    ctx = FakeContext(config=config, inputs=curriculum_inputs(nats or NATS), seed=seed)
    stage().run(ctx)
    return ctx


def rows(ctx: FakeContext[Config]) -> list[Curriculum]:
    return ctx.rows("curriculum")


def generated(nats: list[float], given: int) -> float:
    return math.fsum(nats[given:])


def test_statement_13_the_difficulty_left_is_that_of_the_steps_after_the_cut() -> None:
    tails = [_tails(own) for own in NATS]

    assert tails[0] == pytest.approx([2.2, 1.5, 0.4, 0.0])
    assert [own[-1] for own in tails] == [0.0] * 5
    assert sum(own[0] for own in tails) == pytest.approx(sum(map(sum, NATS)))


def test_statement_14_the_ceiling_rises_from_c0_to_b_as_equation_10_says() -> None:
    def share(passed: float) -> float:
        return ceiling(passed * 40, num_stages=40, total=50.0, initial=15.0, growth=0.5) / 50

    shares = [share(number / 10) for number in range(11)]

    # KPOD.md section 3, from the paper's C_0 = 0.3 B and p = 0.5.
    expected = [0.300, 0.322, 0.363, 0.415, 0.477, 0.547, 0.625, 0.710, 0.801, 0.898, 1.000]
    assert shares == pytest.approx(expected, abs=0.0006)
    assert share(0.5) == pytest.approx(0.5475, abs=0.00005)
    assert (share(0), share(1)) == (0.3, 1.0)
    assert shares == sorted(set(shares))


@given(st.floats(0, 0.99), st.floats(0.05, 5), st.integers(1, 60))
def test_statement_14_the_ceiling_rises_at_every_stage(
    initial_frac: float, growth: float, num_stages: int
) -> None:
    limits = [
        ceiling(stage, num_stages=num_stages, total=7.0, initial=7.0 * initial_frac, growth=growth)
        for stage in range(num_stages + 1)
    ]

    assert limits[0] == 7.0 * initial_frac
    assert limits[-1] == 7.0
    assert all(before <= after for before, after in pairwise(limits))
    if growth <= 2:  # where it is so steep that a double cannot tell, the first stages may be equal
        assert len(set(limits)) == num_stages + 1


@pytest.mark.parametrize(
    ("epochs", "stages"), [(1, 1), (2, 1), (3, 1), (4, 2), (20, 10), (100, 50)]
)
def test_statement_15_the_stages_are_half_of_the_epochs_by_default(
    epochs: int, stages: int
) -> None:
    assert Config(epochs=epochs).num_stages == stages


def test_statement_15_a_stage_is_an_epoch() -> None:
    ctx = run(epochs=10)

    facts = ctx.notes["epochs"]
    assert [fact["epoch"] for fact in facts] == list(range(11))
    for fact in facts[1:]:
        epoch = fact["epoch"]
        given = [row.given[epoch - 1] for row in rows(ctx)]
        left = sum(generated(own, count) for own, count in zip(NATS, given, strict=True))
        assert fact["realised_nats"] == pytest.approx(left)
        assert fact["generated_frac"] == pytest.approx(1 - sum(given) / sum(map(len, NATS)))
        assert fact["num_full"] == given.count(0)
    assert [fact["budget_nats"] for fact in facts[:6]] == pytest.approx(
        [ceiling(t, num_stages=5, total=12.8, initial=3.84, growth=0.5) for t in range(6)]
    )


schedules = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 12),
        "initial_frac": st.floats(0, 0.9),
        "growth": st.floats(0.1, 3),
        "diversity": st.sampled_from([0.0, 0.1, 12.0]),
        "steps_per_stage": st.integers(1, 3),
        "start": st.sampled_from(["fill", "per_question"]),
    }
)


def run_or_refused(nats: list[list[float]], stage: Any, seed: int, **settings: Any) -> Any:
    """The context, or None where no step can move before the last stage, which is an error."""
    try:
        return run(nats, stage=stage, seed=seed, **settings)
    except StageError as error:
        if "no step can move" in str(error):
            return None
        raise


@given(nats_lists, schedules, st.sampled_from([Progressive, Random]), st.integers(0, 9))
@settings(max_examples=120, deadline=None)
def test_statement_16_the_steps_given_fall_and_the_ceiling_holds(
    nats: list[list[float]], settings: dict[str, Any], stage: Any, seed: int
) -> None:
    ctx = run_or_refused(nats, stage, seed, **settings)
    if ctx is None:
        return
    config, total = ctx.config, sum(map(sum, nats))
    for row, own in zip(rows(ctx), nats, strict=True):
        assert row.num_steps == len(own)
        assert len(row.given) == len(row.cut) == config.epochs
        assert all(0 <= count <= len(own) for count in row.given)
        for before, after in pairwise(row.given[: config.num_stages]):
            assert after in {before, max(0, before - config.steps_per_stage)}
        assert row.cut == tuple(count * len(STEP) for count in row.given)
    for epoch in range(1, config.num_stages + 1):
        left = sum(
            generated(own, row.given[epoch - 1]) for own, row in zip(nats, rows(ctx), strict=True)
        )
        initial = config.initial_frac * total
        limit = ceiling(epoch, num_stages=config.num_stages, total=total, initial=initial, growth=config.growth)  # fmt: skip
        assert left <= limit + 2e-9 * total


@given(nats_lists, schedules, st.sampled_from([Progressive, Random]))
@settings(max_examples=80, deadline=None)
def test_statement_17_the_start_keeps_under_c0(
    nats: list[list[float]], settings: dict[str, Any], stage: Any
) -> None:
    ctx = run_or_refused(nats, stage, 0, **settings)
    if ctx is None:
        return
    start, total = ctx.notes["epochs"][0], sum(map(sum, nats))

    assert start["budget_nats"] == pytest.approx(settings["initial_frac"] * total)
    assert start["realised_nats"] <= start["budget_nats"] + 2e-9 * total
    assert start["value_nats"] is None


def test_statement_17_every_rationale_is_there_at_every_epoch_whatever_it_is_given() -> None:
    # With C_0 = 0 and every step dear, stage 0 is the answer alone; a row still stands for every rationale and epoch.
    ctx = run(initial_frac=0.0, epochs=20)

    assert [row.rationale_id for row in rows(ctx)] == ids(curriculum_inputs(NATS))
    assert {len(row.given) for row in rows(ctx)} == {20}
    assert ctx.notes["epochs"][0]["generated_frac"] == 0.0


def test_a_start_per_question_is_the_longest_end_of_at_most_its_own_share() -> None:
    ctx = run(
        [[1.0, 1.0, 1.0, 1.0], [3.0, 1.0], [1.0, 3.0]], initial_frac=0.25, start="per_question"
    )

    # Ends of 1 of 4, 1 of 4 and (the last step alone being 3 of 4) 0 of 4 nats: 2 of 8 steps.
    start = ctx.notes["epochs"][0]
    assert start["generated_frac"] == pytest.approx(2 / 8)
    assert start["realised_nats"] == pytest.approx(2.0)
    assert start["num_moved"] == 2


def test_a_start_that_fills_leaves_nothing_that_fits_under_c0() -> None:
    ctx = run([[1.0] * 4, [1.0] * 6], initial_frac=0.45)

    assert ctx.notes["epochs"][0]["realised_nats"] == pytest.approx(4.0)  # of C_0 = 4.5


def test_mistake_8_1_07_the_first_step_can_be_generated_and_the_whole_difficulty_is_reached() -> (
    None
):
    ctx = run([[1.0, 1.0], [1.0, 1.0]], epochs=16)
    last_stage = ctx.notes["epochs"][8]

    assert [row.given[7] for row in rows(ctx)] == [0, 0]
    assert last_stage["realised_nats"] == last_stage["budget_nats"] == pytest.approx(4.0)


def test_mistake_8_1_07_c0_decides_where_the_schedule_starts() -> None:
    starts = [
        run(initial_frac=frac).notes["epochs"][0]["generated_frac"] for frac in (0.0, 0.3, 0.6)
    ]

    assert starts[0] == 0.0
    assert starts[0] < starts[1] < starts[2]


def test_statement_22_after_the_stages_everything_is_generated_even_where_they_did_not_get_there() -> (
    None
):
    ctx = run([[1.0] * 30, [1.0] * 3], epochs=6, stages=2)
    long, short = rows(ctx)
    facts = ctx.notes["epochs"]

    assert long.given[1] > 0
    assert long.given[2:] == short.given[2:] == (0, 0, 0, 0)
    assert long.cut[2:] == (0, 0, 0, 0)
    assert facts[3]["num_moved"] == facts[2]["num_full"] == 1
    assert facts[3]["generated_frac"] == 1.0
    assert ctx.notes["summary"].endswith("all from epoch 3 of 6")


def test_as_many_stages_as_epochs_leave_no_epoch_after_them() -> None:
    ctx = run([[1.0] * 30, [1.0] * 3], epochs=2, stages=2)

    assert rows(ctx)[0].given[1] > 0
    assert ctx.notes["summary"].endswith(" at epoch 2, the last")


def test_what_a_stage_does_not_spend_stays_for_the_next() -> None:
    # One rationale of two steps of 1 nat; D = 0.2, 0.73, 1.27 (p near 0), 2: the first step fits at stage 2, not before.
    ctx = run([[1.0, 1.0]], epochs=6, initial_frac=0.1, growth=1e-9)

    assert rows(ctx)[0].given == (2, 1, 0, 0, 0, 0)


def test_more_stages_than_epochs_are_refused() -> None:
    with pytest.raises(SettingError, match="stages: got 5 stages in 4 epochs; a stage is an epoch; set at most 4"):  # fmt: skip
        Config(epochs=4, stages=5)


def test_epochs_are_filled_in_by_the_runner() -> None:
    with pytest.raises(AssertionError, match="the runner fills epochs in"):
        run(epochs=None)


def test_a_schedule_in_which_no_step_can_ever_move_says_what_to_raise() -> None:
    with pytest.raises(StageError, match="no step can move before the last of 3 stages: the cheapest costs 5 nats,") as found:  # fmt: skip
        run([[5.0], [5.0]], epochs=6, growth=30.0, initial_frac=0.1)
    assert "raise initial_frac (now 0.1) or lower growth (now 30)" in str(found.value)

    run([[5.0], [5.0]], epochs=2, initial_frac=0.1)  # one stage: what moves at the last is played


def test_a_stage_tells_how_far_it_is_and_can_be_stopped() -> None:
    ctx = run(epochs=8)

    assert ctx.steps[0][:3] == (0, 4, "stages")
    assert ctx.steps[-1][:3] == (4, 4, "stages")
