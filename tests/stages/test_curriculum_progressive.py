"""curriculum.progressive as a stage: what it writes, that it is one thing for one input, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Difficulty, StageError
from kpod.stages.curriculum._settings import Config
from kpod.stages.curriculum.progressive import Progressive
from tests.stages.curriculum_inputs import curriculum_inputs, nats_lists
from tests.stages.fakes import FakeContext

NATS = [[1.0, 1.0, 1.0], [2.0, 1.0], [1.0]]


def run(inputs: dict[str, Any], **settings: Any) -> FakeContext[Config]:
    ctx = FakeContext(config=Config(**{"epochs": 8, **settings}), inputs=inputs)
    Progressive().run(ctx)
    return ctx


def test_a_small_curriculum_is_what_it_comes_to_by_hand() -> None:
    # B = 7; D(0 … 4) = 2.1, 2.71, 3.83, 5.28, 7; each rationale is a cluster of its own.
    ctx = run(curriculum_inputs(NATS))

    # Stage 0: last steps of 1, 1 and 1 nat, two fit (equals by index). Stage 1: 0.71 left, nothing fits. Stage 2: 1.83 for 1, 2
    # and 1, one fits. Stage 3: 2.28 for 1, 2 and 1: both ones, from two clusters, are denser than the two. Stage 4: the two.
    assert [row.given for row in ctx.rows("curriculum")] == [
        (2, 1, 0, 0, 0, 0, 0, 0),
        (1, 1, 1, 0, 0, 0, 0, 0),
        (1, 1, 0, 0, 0, 0, 0, 0),
    ]
    assert ctx.rows("curriculum")[0].cut == (20, 10, 0, 0, 0, 0, 0, 0)
    assert ctx.notes["summary"] == (
        "3 rationales, 33% of the steps generated at epoch 1, all from epoch 4 of 8"
    )


@given(nats_lists, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_inputs_are_joined_by_id_whatever_their_order(nats: list[list[float]], stream: Any) -> None:
    inputs = curriculum_inputs([*nats, [0.0]])  # the last can always move
    shuffled = {name: list(rows) for name, rows in inputs.items()}
    stream.shuffle(shuffled["difficulty"])
    stream.shuffle(shuffled["clusters"])

    first, second = run(inputs), run(shuffled)

    assert first.rows("curriculum") == second.rows("curriculum")
    assert first.notes == second.notes


def test_two_rationales_of_one_question_are_two_units_of_its_cluster() -> None:
    inputs = curriculum_inputs([[1.0, 1.0], [1.0, 1.0]])
    second = replace(inputs["rationales"][1], question_id="q0")
    inputs["rationales"][1] = second

    rows = run({**inputs, "clusters": inputs["clusters"][:1]}).rows("curriculum")

    assert [row.rationale_id for row in rows] == [
        rationale.id for rationale in inputs["rationales"]
    ]


def _without_difficulty(inputs: dict[str, list[Any]]) -> None:
    del inputs["difficulty"][1]


def _unknown(inputs: dict[str, list[Any]]) -> None:
    inputs["difficulty"].append(Difficulty(rationale_id="stranger", steps=((0, 3, 1.0),)))


def _without_cluster(inputs: dict[str, list[Any]]) -> None:
    del inputs["clusters"][2]


def _changed(**change: Any) -> Callable[[dict[str, list[Any]]], None]:
    def damage(inputs: dict[str, list[Any]]) -> None:
        inputs["difficulty"][0] = replace(inputs["difficulty"][0], **change)

    return damage


def _twice(inputs: dict[str, list[Any]]) -> None:
    inputs["difficulty"].append(replace(inputs["difficulty"][0], steps=((0, 30, 9.0),)))


def _empty(inputs: dict[str, list[Any]]) -> None:
    inputs["rationales"].clear()


NAN, INFINITE = float("nan"), float("inf")
FIRST, SECOND = (row.id for row in curriculum_inputs(NATS)["rationales"][:2])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_without_difficulty, f"1 of 3 rationales without a difficulty: {SECOND}\nmake the difficulties from these"),
        (_unknown, "1 of 4 difficulties belong to no rationale: stranger\nmake the difficulties"),
        (_without_cluster, "1 question of 1 rationale in no cluster: q2\ncluster the questions"),
        (_changed(steps=()), f"rationale {FIRST}: its difficulty has no step, so nothing"),
        (_changed(steps=((0, 30, -0.5),)), f"rationale {FIRST}: step 1 has a difficulty of -0.5 nats; needed: a finite"),
        (_changed(steps=((0, 9, 1.0), (9, 30, NAN))), f"rationale {FIRST}: step 2 has a difficulty of nan nats"),
        (_changed(steps=((0, 30, INFINITE),)), f"rationale {FIRST}: step 1 has a difficulty of inf nats"),
        (_changed(steps=((0, 9, 1.0), (10, 30, 1.0))), f"rationale {FIRST}: its 2 steps do not cover its 30 characters"),
        (_changed(steps=((0, 29, 1.0),)), f"rationale {FIRST}: its 1 steps do not cover its 30 characters"),
        (_twice, f"rationale {FIRST}: two difficulties that differ"),
        (_empty, "there are no rationales to plan for"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_told_by_id(
    damage: Callable[[dict[str, list[Any]]], None], says: str
) -> None:
    inputs: dict[str, list[Any]] = curriculum_inputs(NATS)  # type: ignore[assignment]
    damage(inputs)

    with pytest.raises(StageError) as found:
        run(inputs)
    assert str(found.value).startswith(says)


def test_steps_without_any_difficulty_move_freely() -> None:
    ctx = run(curriculum_inputs([[0.0, 0.0], [0.0]]))

    assert [row.given for row in ctx.rows("curriculum")] == [(0,) * 8, (0,) * 8]
