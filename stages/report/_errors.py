"""Where students go wrong: right answers by the number of steps of the reference solution, and the step that breaks first.

The first needs predictions and solutions alone; the second is told where the run has an evaluate.first_error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpod.runner import Breakpoint, Question
from kpod.stages._lm.solutions import solution_of
from kpod.stages.report._formats import Share
from kpod.stages.report._notes import Note, flat_notes
from kpod.stages.report._wired import find_questions, sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit
    from kpod.stages.report._scores import Scored

# Numbers of steps, and steps, that stand alone in the tables; those after them are taken together.
_MOST_STEPS = 8
# Notes that the table shows.
_SHOWN = ("broken_step_by_steps", "looked_at", "summary", "saved")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmErrors:
    """One model's right answers.

    Args:
        shares: by the groups of the test set; None where none of the group's questions has a gold answer.
    """

    name: str
    is_primary: bool
    shares: tuple[Share | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepErrors:
    """The arms on one set of questions, by how many steps the reference solution takes.

    Args:
        test_set: as the page names it.
        groups: "1", "2", …, "9 and on", and "none" where questions have no solution.
    """

    test_set: str
    groups: tuple[str, ...]
    arms: tuple[ArmErrors, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRow:
    """Wrong answers to questions whose solutions have so many steps.

    Args:
        steps: of the solution; "9 and on".
        n: wrong answers that were looked at.
        broken: how many break first at the table's steps; None where the solution has no such step before its last.
        never: how many stay wrong whatever is given.
    """

    steps: str
    n: int
    broken: tuple[int | None, ...]
    never: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Where one model's answers break.

    Args:
        name: the stage that made the model.
        num_looked_at: wrong answers.
        places: the table's steps, as `BrokenRow.broken` has them: "1", "2", ….
        rows: by the number of steps, fewest first.
        notes: how many questions were asked and left out.
    """

    name: str
    num_looked_at: int
    places: tuple[str, ...]
    rows: tuple[BrokenRow, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenSet:
    """One evaluate.first_error."""

    name: str
    arms: tuple[Broken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """What the section shows; both empty where the run has no solutions of test questions.

    Args:
        by_steps: one a set of test questions that has solutions.
        broken: one an evaluate.first_error, in the order of the run.
    """

    by_steps: tuple[StepErrors, ...]
    broken: tuple[BrokenSet, ...]


def read_errors(archive: Archive, scored: Sequence[Scored]) -> Errors:
    """Where students go wrong.

    Args:
        archive: of a complete run.
        scored: its test sets.

    Raises:
        KpodError: a file is gone from the archive.
    """
    by_steps = (_by_steps(archive, each) for each in scored if not each.facts.has_samples)
    return Errors(
        by_steps=tuple(each for each in by_steps if each is not None), broken=_broken(archive)
    )


def _by_steps(archive: Archive, scored: Scored) -> StepErrors | None:
    asked = {question for verdicts in scored.verdicts.values() for question in verdicts}
    unit = next(iter(scored.units.values()))
    questions = find_questions(archive, sources_of(archive, unit, Question), asked)
    lengths = {id_: _length(question) for id_, question in questions.items()}
    numbers = sorted(set(lengths.values()))
    if not any(numbers):
        return None
    # Questions without a solution come last.
    numbers = [*(number for number in numbers if number), *(number for number in numbers if not number)]  # fmt: skip
    return StepErrors(
        test_set=scored.facts.name,
        groups=tuple(_label(number) if number else "none" for number in numbers),
        arms=tuple(
            ArmErrors(
                name=arm.name,
                is_primary=arm.is_primary,
                shares=_shares(scored.verdicts[arm.name], lengths, numbers),
            )
            for arm in scored.facts.arms
        ),
    )


def _length(question: Question) -> int:
    """Steps of its solution, those beyond the table's as one more; 0 where it has none."""
    solution = solution_of(question, rule="sentence")
    return 0 if solution is None else min(solution.num_steps, _MOST_STEPS + 1)


def _label(number: int) -> str:
    return str(number) if number <= _MOST_STEPS else f"{number} and on"


def _shares(
    verdicts: Mapping[str, bool | None], lengths: Mapping[str, int], numbers: Sequence[int]
) -> tuple[Share | None, ...]:
    """Right answers of the questions with a gold answer, by the number of steps."""
    counted = [
        (lengths[id_], is_right)
        for id_, is_right in verdicts.items()
        if is_right is not None and id_ in lengths
    ]
    total = Counter(length for length, _ in counted)
    right = Counter(length for length, is_right in counted if is_right)
    return tuple(Share.of(right[number], total[number]) for number in numbers)


def _broken(archive: Archive) -> tuple[BrokenSet, ...]:
    stages: dict[str, list[Broken]] = {}
    for unit in archive.units.values():
        if unit.uses == "evaluate.first_error" and "breakpoints" in unit.manifest.outputs:
            stages.setdefault(unit.stage, []).append(_broken_of(archive, unit))
    return tuple(BrokenSet(name=stage, arms=tuple(arms)) for stage, arms in stages.items())


def _broken_of(archive: Archive, unit: ArchivedUnit) -> Broken:
    counts: dict[int, Counter[int]] = {}
    last = 1
    for row in archive.read(unit, "breakpoints", Breakpoint):
        place = min(row.broken_step or 0, _MOST_STEPS + 1)
        counts.setdefault(min(row.num_steps, _MOST_STEPS + 1), Counter())[place] += 1
        last = max(last, min(row.num_steps - 1, _MOST_STEPS + 1))
    places = range(1, last + 1)
    return Broken(
        name=unit.element or unit.name,
        num_looked_at=sum(places.total() for places in counts.values()),
        places=tuple(map(_label, places)),
        rows=tuple(_row(number, counts[number], places) for number in sorted(counts)),
        notes=flat_notes(unit.manifest.notes, without=_SHOWN),
    )


def _row(number: int, counts: Counter[int], places: range) -> BrokenRow:
    """The wrong answers of one number of steps; the row of the longest solutions has every step."""
    is_last = number > _MOST_STEPS
    return BrokenRow(
        steps=_label(number),
        n=counts.total(),
        broken=tuple(counts[place] if place < number or is_last else None for place in places),
        never=counts[0],
    )
