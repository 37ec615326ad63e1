"""What moves through a curriculum: a rationale with the difficulty of its steps and the cluster of its question, joined by id."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kpod.runner import Assignment, Difficulty, Rationale, StageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One rationale.

    Args:
        rationale_id: whose it is.
        cluster: of its question.
        nats: difficulty of each step, >= 0.
        ends: character offset where each step ends.
    """

    rationale_id: str
    cluster: int
    nats: tuple[float, ...]
    ends: tuple[int, ...]

    @property
    def num_steps(self) -> int:
        """At least 1."""
        return len(self.nats)


def read_units(
    rationales: Iterable[Rationale],
    difficulties: Iterable[Difficulty],
    assignments: Iterable[Assignment],
) -> list[Unit]:
    """The units, in the order of the rationales.

    Raises:
        StageError: there is no rationale; one lacks a difficulty, or a step, or its question a cluster; a difficulty belongs to
            no rationale, is not a finite number >= 0, or its steps do not cover the text.
    """
    texts = {rationale.id: rationale for rationale in rationales}
    if not texts:
        raise StageError(
            "there are no rationales to plan for; look at the teacher and at what the filter dropped"
        )
    steps_of = _steps_by_id(difficulties)
    _check_same_rationales(texts, steps_of)
    cluster_of = {row.question_id: row.cluster for row in assignments}
    lost = [text for text in texts.values() if text.question_id not in cluster_of]
    if lost:
        questions = list(dict.fromkeys(text.question_id for text in lost))
        raise StageError(
            f"{_count(questions, 'question')} of {_count(lost, 'rationale')} in no cluster: {_some(questions)}\n"
            "cluster the questions that the rationales answer: wire both to the same data stage"
        )
    return [
        _unit(text, steps_of[text.id].steps, cluster=cluster_of[text.question_id])
        for text in texts.values()
    ]


def _steps_by_id(difficulties: Iterable[Difficulty]) -> dict[str, Difficulty]:
    found: dict[str, Difficulty] = {}
    for row in difficulties:
        if found.setdefault(row.rationale_id, row) != row:
            raise StageError(
                f"rationale {row.rationale_id}: two difficulties that differ\n"
                "keep one of them; a difficulty stage writes one a rationale"
            )
    return found


def _check_same_rationales(
    texts: Mapping[str, Rationale], steps_of: Mapping[str, Difficulty]
) -> None:
    missing = [name for name in texts if name not in steps_of]
    if missing:
        raise StageError(
            f"{len(missing)} of {_count(texts, 'rationale')} without a difficulty: {_some(missing)}\n"
            "make the difficulties from these rationales: wire both stages to the same one"
        )
    unknown = [name for name in steps_of if name not in texts]
    if unknown:
        raise StageError(
            f"{len(unknown)} of {len(steps_of)} difficulties belong to no rationale: {_some(unknown)}\n"
            "make the difficulties from these rationales: wire both stages to the same one"
        )


def _unit(rationale: Rationale, steps: Sequence[tuple[int, int, float]], *, cluster: int) -> Unit:
    """One unit, its steps checked."""
    if not steps:
        raise StageError(
            f"rationale {rationale.id}: its difficulty has no step, so nothing of it could be given\n"
            "drop it in the filter, or look at the segmenter of the difficulty stage"
        )
    for number, (_, _, nats) in enumerate(steps, start=1):
        if not math.isfinite(nats) or nats < 0:
            raise StageError(
                f"rationale {rationale.id}: step {number} has a difficulty of {nats} nats; needed: a finite number, 0 or more\n"
                "look at the stage that made the difficulties, and at the model that it asked"
            )
    edges = [0, *(end for _, end, _ in steps)]
    if [start for start, _, _ in steps] != edges[:-1] or edges[-1] != len(rationale.text):
        raise StageError(
            f"rationale {rationale.id}: its {len(steps)} steps do not cover its {len(rationale.text)} characters one after another\n"
            "make the difficulties from this very text again"
        )
    return Unit(
        rationale_id=rationale.id,
        cluster=cluster,
        nats=tuple(nats for _, _, nats in steps),
        ends=tuple(edges[1:]),
    )


def _count(items: Sequence[object] | Mapping[str, object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _some(ids: Sequence[str]) -> str:
    """Up to three ids."""
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
