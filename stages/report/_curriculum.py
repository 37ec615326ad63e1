"""What a curriculum gives and what students have to write: by epoch over all rationales, and the cuts of a few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import Curriculum
from kpod.stages.report._asked import Asked
from kpod.stages.report._notes import Note, flat_notes, number
from kpod.stages.report._taught import Drawn
from kpod.stages.report._wired import Source, made_by, takers

if TYPE_CHECKING:
    from kpod.runner.archive import Archive

# Numbers of given steps that stand alone; those above are taken together.
MOST_GIVEN = 4
_NUM_CUT, _NUM_BESIDE = 3, 1
_MOST_CHARACTERS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch, over all rationales.

    Args:
        number: from 1; 0 is the state that the first selection starts from, known only where the stage noted it.
        generated_frac: share of all steps that students write.
        num_moved: rationales with another number of given steps than at the epoch before; None at the first unless noted.
        num_full: rationales of which students write everything.
        given: how many rationales have 0, 1, … given steps, the last of them MOST_GIVEN and more; empty at epoch 0.
        budget, realised: D(t) and the difficulty that is written, in nats; None where they were not noted.
    """

    number: int
    generated_frac: float
    num_moved: int | None
    num_full: int | None
    given: tuple[int, ...]
    budget: float | None
    realised: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Epochs in a row in which a rationale is cut at the same place.

    Args:
        epochs: "3" or "3–5".
        given, generated: its text before and after the cut.
        num_given, num_steps: steps before the cut, and all.
    """

    epochs: str
    given: str
    generated: str
    num_given: int
    num_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One rationale through the epochs."""

    question: Asked
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one stage planned.

    Args:
        cuts: arms that are trained by it.
        counts: arms that take only its number of target tokens.
        total: B in nats; None where it was not noted.
        examples: of the rationales that were drawn, those with the most cuts.
        notes: whatever else the stage told.
    """

    name: str
    uses: str
    cuts: tuple[str, ...]
    counts: tuple[str, ...]
    num_rationales: int
    num_steps: int
    total: float | None
    epochs: tuple[Epoch, ...]
    examples: tuple[Cut, ...]
    notes: tuple[Note, ...]


class Planned(NamedTuple):
    """The facts, and the rows of the rationales that the page shows, by id."""

    facts: Plan
    rows: Mapping[str, Curriculum]


@dataclass(slots=True)
class _Counts:
    """Sums over the rows: by epoch, how many rationales have so many given steps, steps given, and rationales that moved."""

    num_rationales: int = 0
    num_steps: int = 0
    given: list[Counter[int]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)

    def add(self, row: Curriculum) -> None:
        self.num_rationales += 1
        self.num_steps += row.num_steps
        for _ in range(len(row.given) - len(self.given)):
            self.given.append(Counter())
            self.steps.append(0)
            self.moved.append(0)
        before = None
        for epoch, given in enumerate(row.given):
            self.given[epoch][min(given, MOST_GIVEN)] += 1
            self.steps[epoch] += given
            self.moved[epoch] += before is not None and before != given
            before = given


def read_plans(archive: Archive, drawn: Drawn) -> tuple[Planned, ...]:
    """Every output of curricula, in the order of the run."""
    sources = made_by(archive, "curriculum", Curriculum)
    return tuple(
        _planned(archive, source, drawn, most=_NUM_BESIDE if index else _NUM_CUT)
        for index, source in enumerate(sources)
    )


def _planned(archive: Archive, source: Source, drawn: Drawn, *, most: int) -> Planned:
    counts = _Counts()
    rows: dict[str, Curriculum] = {}
    for row in archive.read(*source, Curriculum):
        counts.add(row)
        if row.rationale_id in drawn.rationales:
            rows[row.rationale_id] = row
    notes = source.unit.manifest.notes
    epochs = tuple(_epochs(counts, _noted_epochs(notes)))
    facts = Plan(
        name=source.unit.name,
        uses=source.unit.uses,
        cuts=takers(archive, source, kind="student.", on="curriculum"),
        counts=takers(archive, source, kind="student.", on="budget"),
        num_rationales=counts.num_rationales,
        num_steps=counts.num_steps,
        total=max((epoch.budget for epoch in epochs if epoch.budget is not None), default=None),
        epochs=epochs,
        examples=_examples(drawn, rows)[:most],
        notes=flat_notes(notes, without=("epochs",)),
    )
    return Planned(facts, rows)


def _examples(drawn: Drawn, rows: Mapping[str, Curriculum]) -> tuple[Cut, ...]:
    """All that were drawn, those with the most cuts first."""
    cuts = (
        Cut(question=drawn.asked(id_), turns=turns(rationale.text, rows[id_]))
        for id_, rationale in drawn.rationales.items()
        if id_ in rows
    )
    return tuple(sorted(cuts, key=lambda cut: -len(cut.turns)))


def _noted_epochs(notes: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """The note `epochs`, by number; without it nothing."""
    noted = notes.get("epochs")
    rows = noted if isinstance(noted, list) else []
    return {
        row["epoch"]: row
        for row in rows
        if isinstance(row, Mapping) and isinstance(row.get("epoch"), int)
    }


def _epochs(counts: _Counts, noted: Mapping[int, Mapping[str, Any]]) -> Iterator[Epoch]:
    start = noted.get(0)
    if start is not None and (generated := number(start, "generated_frac")) is not None:
        yield _epoch(0, generated, (), start, num_moved=None)
    for epoch, given in enumerate(counts.given, start=1):
        note = noted.get(epoch, {})
        moved = _whole(note, "num_moved") if epoch == 1 else counts.moved[epoch - 1]
        yield _epoch(
            epoch,
            1 - counts.steps[epoch - 1] / max(1, counts.num_steps),
            tuple(given[size] for size in range(MOST_GIVEN + 1)),
            note,
            num_moved=moved,
        )


def _epoch(
    number_: int,
    generated_frac: float,
    given: tuple[int, ...],
    note: Mapping[str, Any],
    *,
    num_moved: int | None,
) -> Epoch:
    return Epoch(
        number=number_,
        generated_frac=generated_frac,
        num_moved=num_moved,
        num_full=given[0] if given else _whole(note, "num_full"),
        given=given,
        budget=number(note, "budget_nats"),
        realised=number(note, "realised_nats"),
    )


def _whole(note: Mapping[str, Any], name: str) -> int | None:
    value = number(note, name)
    return None if value is None else int(value)


def turns(text: str, row: Curriculum) -> tuple[Turn, ...]:
    """The rationale's cuts in the order of the epochs, equal ones in a row taken together."""
    found: list[Turn] = []
    for (num_given, cut), run in groupby(
        enumerate(zip(row.given, row.cut, strict=False), start=1), key=lambda item: item[1]
    ):
        numbers = [epoch for epoch, _ in run]
        found.append(
            Turn(
                epochs=in_row(numbers),
                given=_inner(text[:cut]),
                generated=_inner(text[cut:]),
                num_given=num_given,
                num_steps=row.num_steps,
            )
        )
    return tuple(found)


def in_row(numbers: Sequence[int]) -> str:
    """`3`, or `3–5`."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


def _inner(text: str) -> str:
    """A part that still reads as its neighbour's: very long ones lose their middle."""
    if len(text) <= _MOST_CHARACTERS:
        return text
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]} [… {len(text) - 2 * half:,} characters left out …] {text[-half:]}"
