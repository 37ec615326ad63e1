"""A schedule told epoch by epoch: the records that students read, and the facts that the report shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

from kpod.runner import Curriculum

if TYPE_CHECKING:
    from kpod.stages.curriculum._schedule import State
    from kpod.stages.curriculum._units import Unit


class EpochFacts(TypedDict):
    """What happens at an epoch, as JSON; epoch 0 is the state that the first selection starts from.

    budget_nats is D(t), realised_nats the difficulty of what is generated, value_nats F of the set that moved (None where
    nothing was selected), generated_frac the share of all steps that are generated, num_moved the rationales that generate
    more than at the epoch before, num_full those that generate everything.
    """

    epoch: int
    budget_nats: float
    realised_nats: float
    value_nats: float | None
    generated_frac: float
    num_moved: int
    num_full: int


def curriculum_rows(
    units: Sequence[Unit], states: Sequence[State], *, num_epochs: int
) -> Iterator[Curriculum]:
    """One record a rationale: the states of stages 1 to T, then nothing given (KPOD algorithm 1: only while e <= T).

    Args:
        units: in the order of the records.
        states: of stages 0 to T.
        num_epochs: at least T.
    """
    rest = (0,) * (num_epochs - len(states) + 1)
    for index, unit in enumerate(units):
        given = (*(state.given[index] for state in states[1:]), *rest)
        yield Curriculum(
            rationale_id=unit.rationale_id,
            num_steps=unit.num_steps,
            given=given,
            cut=tuple(unit.ends[count - 1] if count else 0 for count in given),
        )


def epoch_facts(
    units: Sequence[Unit], states: Sequence[State], *, num_epochs: int
) -> list[EpochFacts]:
    """The facts of epochs 0 to the last."""
    num_steps = sum(unit.num_steps for unit in units)
    facts = [
        EpochFacts(
            epoch=epoch,
            budget_nats=state.ceiling,
            realised_nats=state.realised,
            value_nats=state.value,
            generated_frac=1 - sum(state.given) / num_steps,
            num_moved=len(state.moved),
            num_full=state.given.count(0),
        )
        for epoch, state in enumerate(states)
    ]
    total = states[-1].ceiling
    num_forced = len(units) - facts[-1]["num_full"]
    facts.extend(
        EpochFacts(
            epoch=epoch,
            budget_nats=total,
            realised_nats=total,
            value_nats=None,
            generated_frac=1.0,
            num_moved=num_forced if epoch == len(states) else 0,
            num_full=len(units),
        )
        for epoch in range(len(states), num_epochs + 1)
    )
    return facts


def summary(facts: Sequence[EpochFacts], *, num_units: int) -> str:
    """One line: how much is generated at first, and from when on all is."""
    first, last = facts[1], facts[-1]
    full = next((fact["epoch"] for fact in facts[1:] if fact["num_full"] == num_units), None)
    start = (
        f"{num_units:,} rationales, {first['generated_frac']:.0%} of the steps generated at epoch 1"
    )
    if full is None:
        return f"{start}, {last['generated_frac']:.0%} at epoch {last['epoch']}, the last"
    return f"{start}, all from epoch {full} of {last['epoch']}"
