"""How hard the steps are: by their number in the rationale, and how many steps rationales have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Difficulty
from kpod.stages.report._notes import Note, flat_notes
from kpod.stages.report._taught import Drawn
from kpod.stages.report._wired import Source, made_by, takers

if TYPE_CHECKING:
    from kpod.runner.archive import Archive

# Steps that stand alone in the figures; those after them are taken together.
_MOST_STEPS = 8
# Notes that have a place of their own, or that the figures show.
_SHOWN = ("steps_by_rationale", "rationales", "steps", "total_difficulty", "mean_nats")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMean:
    """Mean difficulty of the steps of one place.

    Args:
        label: "1", "2", …, "9 and on", "last".
        n: steps.
        mean, sd: nats; the standard deviation over steps (n - 1), None where n is 1.
    """

    label: str
    n: int
    mean: float
    sd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardness:
    """What one stage found.

    Args:
        taken_by: stages that read it.
        total: B, the difficulty of all steps, in nats.
        by_step: by place in the rationale.
        last: the last step of each rationale, whatever its number; None where there are no rationales.
        sizes: (number of steps, rationales that have so many), the last "9 and on" where there are such.
        notes: whatever else the stage told.
    """

    name: str
    uses: str
    taken_by: tuple[str, ...]
    num_rationales: int
    num_steps: int
    total: float
    by_step: tuple[StepMean, ...]
    last: StepMean | None
    sizes: tuple[tuple[str, int], ...]
    notes: tuple[Note, ...]


class Measured(NamedTuple):
    """The facts, and the steps of the rationales that the page shows, by id."""

    facts: Hardness
    rows: Mapping[str, Difficulty]


@dataclass(slots=True)
class _Sum:
    """Running moments of one place."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, nats: float) -> None:
        self.n += 1
        self.total += nats
        self.squares += nats * nats

    def mean(self, label: str) -> StepMean:
        mean = self.total / self.n
        spread = max(0.0, self.squares - self.n * mean * mean)
        sd = sqrt(spread / (self.n - 1)) if self.n > 1 else None
        return StepMean(label=label, n=self.n, mean=mean, sd=sd)


@dataclass(slots=True)
class _Counts:
    """All that is summed while the rows go by; place _MOST_STEPS takes all steps after those that stand alone."""

    places: list[_Sum] = field(default_factory=lambda: [_Sum() for _ in range(_MOST_STEPS + 1)])
    last: _Sum = field(default_factory=_Sum)
    sizes: Counter[int] = field(default_factory=Counter)

    def add(self, row: Difficulty) -> None:
        for place, (_, _, nats) in enumerate(row.steps):
            self.places[min(place, _MOST_STEPS)].add(nats)
        if row.steps:
            self.last.add(row.steps[-1][2])
        self.sizes[min(len(row.steps), _MOST_STEPS + 1)] += 1


def read_difficulties(archive: Archive, drawn: Drawn) -> tuple[Measured, ...]:
    """Every output of difficulties, in the order of the run."""
    return tuple(
        _measured(archive, source, drawn) for source in made_by(archive, "difficulty", Difficulty)
    )


def _measured(archive: Archive, source: Source, drawn: Drawn) -> Measured:
    counts = _Counts()
    rows: dict[str, Difficulty] = {}
    for row in archive.read(*source, Difficulty):
        counts.add(row)
        if row.rationale_id in drawn.rationales:
            rows[row.rationale_id] = row
    places = [place for place in counts.places if place.n]
    facts = Hardness(
        name=source.unit.name,
        uses=source.unit.uses,
        taken_by=takers(archive, source),
        num_rationales=counts.sizes.total(),
        num_steps=sum(place.n for place in places),
        total=sum(place.total for place in places),
        by_step=tuple(place.mean(_label(index + 1)) for index, place in enumerate(places)),
        last=counts.last.mean("last") if counts.last.n else None,
        sizes=tuple((_label(size), counts.sizes[size]) for size in sorted(counts.sizes)),
        notes=flat_notes(source.unit.manifest.notes, without=_SHOWN),
    )
    return Measured(facts, rows)


def _label(number: int) -> str:
    return str(number) if number <= _MOST_STEPS else f"{number} and on"
