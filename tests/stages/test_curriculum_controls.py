"""curriculum.random and curriculum.reversed: controls that differ from curriculum.progressive in one thing each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kpod.runner import Curriculum, StageError
from kpod.runner.registry import find_stage
from kpod.stages.curriculum import reversed as turning
from kpod.stages.curriculum._settings import Config
from kpod.stages.curriculum.progressive import Progressive
from kpod.stages.curriculum.random import Random
from kpod.stages.curriculum.reversed import Reversed
from tests.stages.curriculum_inputs import curriculum_inputs
from tests.stages.fakes import FakeContext

NATS = [[0.5 + (7 * i + 3 * j) % 5 / 4 for j in range(2 + i % 4)] for i in range(24)]


def run(stage: Any, *, seed: int = 0, **settings: Any) -> FakeContext[Config]:
    config = Config(**{"epochs": 10, **settings})
    ctx = FakeContext(config=config, inputs=curriculum_inputs(NATS), seed=seed)
    stage().run(ctx)
    return ctx


def test_a_random_curriculum_is_the_seeds_and_has_the_ceilings_of_the_progressive_one() -> None:
    first, again, other = (run(Random, seed=seed) for seed in (1, 1, 2))
    ours = run(Progressive)

    assert first.rows("curriculum") == again.rows("curriculum")
    assert first.rows("curriculum") != other.rows("curriculum")
    assert first.rows("curriculum") != ours.rows("curriculum")
    assert [fact["budget_nats"] for fact in first.notes["epochs"]] == [
        fact["budget_nats"] for fact in ours.notes["epochs"]
    ]


def test_a_random_curriculum_spends_its_budget_too() -> None:
    ctx = run(Random, seed=3)
    dearest = max(max(own) for own in NATS)

    for fact in ctx.notes["epochs"][:5]:  # at the last stage a long rationale may have steps left
        assert 0 <= fact["budget_nats"] - fact["realised_nats"] < dearest


def test_random_and_progressive_take_the_same_inputs_and_settings() -> None:
    assert (
        find_stage("curriculum.random").config_class
        is find_stage("curriculum.progressive").config_class
    )
    assert list(Random.inputs()) == list(Progressive.inputs())
    assert (Random.seeded, Progressive.seeded, Reversed.seeded) == ("recipe", "none", "none")


def reverse(rows: list[Curriculum]) -> list[Curriculum]:
    ctx = FakeContext(config=turning.Config(), inputs={"curriculum": rows})
    Reversed().run(ctx)
    return ctx.rows("reversed")


def test_a_reversed_curriculum_plays_the_stages_backwards_and_then_everything() -> None:
    row = Curriculum(rationale_id="a", num_steps=4, given=(3, 2, 2, 0, 0, 0), cut=(30, 20, 20, 0, 0, 0))  # fmt: skip
    done = Curriculum(rationale_id="b", num_steps=1, given=(1, 0, 0, 0, 0, 0), cut=(9, 0, 0, 0, 0, 0))  # fmt: skip

    assert reverse([row, done]) == [
        replace(row, given=(2, 2, 3, 0, 0, 0), cut=(20, 20, 30, 0, 0, 0)),
        replace(done, given=(0, 0, 1, 0, 0, 0), cut=(0, 0, 9, 0, 0, 0)),
    ]


def test_a_curriculum_reversed_twice_is_the_first_where_its_first_stage_gives_something() -> None:
    rows = run(Progressive).rows("curriculum")

    assert reverse(reverse(rows)) == rows
    assert [sorted(row.given) for row in reverse(rows)] == [sorted(row.given) for row in rows]


def test_a_curriculum_that_gives_nothing_stays_as_it_is() -> None:
    rows = [Curriculum(rationale_id="a", num_steps=2, given=(0, 0), cut=(0, 0))]

    assert reverse(rows) == rows


def test_curricula_of_different_lengths_cannot_be_reversed() -> None:
    rows = [
        Curriculum(rationale_id="a", num_steps=2, given=(1, 0), cut=(9, 0)),
        Curriculum(rationale_id="b", num_steps=2, given=(1,), cut=(9,)),
    ]

    with pytest.raises(StageError, match="rationale b: 1 epochs of steps and 1 of cuts, where the first rationale has 2"):  # fmt: skip
        reverse(rows)
    with pytest.raises(StageError, match="the curriculum to reverse is empty"):
        reverse([])


def test_a_reversed_curriculum_has_the_epochs_of_the_one_it_turns() -> None:
    assert Reversed.inputs()["curriculum"].agree == ("epochs",)
