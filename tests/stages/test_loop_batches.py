"""Order of training, length groups, padding and learning rates."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.stages.student._batches import StepPlan, epoch_order, length_groups
from kpod.stages.student._schedule import Schedule, ScheduleName
from kpod.stages.student._steps import steps_of_epochs


def plan(
    num_examples: int, *, batch_size: int = 4, epochs: int = 3, max_steps: int | None = None
) -> StepPlan:
    num_steps = steps_of_epochs(
        num_examples, batch_size=batch_size, epochs=epochs, max_steps=max_steps
    )
    return StepPlan(num_examples=num_examples, batch_size=batch_size, num_steps=num_steps, seed=1)


@settings(max_examples=40, deadline=None)
@given(num=st.integers(1, 60), batch_size=st.integers(1, 9), epochs=st.integers(1, 3))
def test_every_epoch_reads_every_example_once(num: int, batch_size: int, epochs: int) -> None:
    steps = plan(num, batch_size=batch_size, epochs=epochs)
    read = [steps.indices(step) for step in range(steps.num_steps)]
    starts = range(0, len(read), steps.steps_per_epoch)
    per_epoch = [read[start : start + steps.steps_per_epoch] for start in starts]

    for epoch in per_epoch:
        assert sorted(itertools.chain(*epoch)) == list(range(num))


def test_the_order_is_another_in_every_epoch_and_for_every_seed() -> None:
    orders = {epoch_order(50, seed=seed, epoch=epoch) for seed in range(3) for epoch in (1, 2)}

    assert len(orders) == 6


def test_the_order_stays_the_same_on_every_machine() -> None:
    assert epoch_order(8, seed=0, epoch=1) == (4, 2, 6, 3, 0, 5, 1, 7)


def test_max_steps_ends_training_early_and_never_late() -> None:
    assert plan(10, max_steps=5).num_steps == 5
    assert plan(10, max_steps=50).num_steps == 9


@settings(max_examples=100, deadline=None)
@given(
    sides=st.lists(st.tuples(st.integers(0, 99), st.integers(1, 300)), min_size=1, max_size=40),
    budget=st.integers(1, 2000),
)
def test_length_groups_hold_every_sequence_once_under_the_budget(
    sides: list[tuple[int, int]], budget: int
) -> None:
    groups = length_groups(sides, budget_tokens=budget)

    assert sorted(itertools.chain(*groups)) == list(range(len(sides)))
    for group in groups:
        encoder, decoder = (max(sides[index][side] for index in group) for side in (0, 1))
        assert len(group) == 1 or (encoder + decoder) * len(group) <= budget


def test_sequences_of_like_length_are_padded_together() -> None:
    assert length_groups([(0, 10), (0, 400), (0, 10), (0, 410)], budget_tokens=4096) == [
        [0, 2],
        [1, 3],
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_the_learning_rate_rises_and_then_falls_to_nothing_after_the_last_step(
    name: ScheduleName, expected: list[float]
) -> None:
    schedule = Schedule(name=name, peak=1.0, warmup_frac=1 / 3, num_steps=6)

    assert [schedule.learning_rate(step) for step in range(6)] == pytest.approx(expected, abs=1e-6)
