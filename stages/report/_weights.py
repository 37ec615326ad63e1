"""Token weights: how they are spread, what they are for classes of tokens, and a few rationales shaded by them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import TokenWeights
from kpod.stages.report._asked import Asked
from kpod.stages.report._curves import Curves, read_curves
from kpod.stages.report._notes import Note, flat_notes, number
from kpod.stages.report._shades import Piece, Thirds, pieces
from kpod.stages.report._taught import Drawn
from kpod.stages.report._wired import Source, made_by, takers

if TYPE_CHECKING:
    from kpod.runner.archive import Archive

# Weights are counted by thousandths: thirds and bars need no more, and no list of all weights is held.
_GRAIN = 1000
NUM_BINS = 10
# Of a stage beside the first one fewer rationales are shown.
_NUM_BESIDE = 2
# The order that KPOD Fig. 2 shows, with the mean of all between names and fillers.
_CLASSES = ("digits_and_operators", "names", "all", "fillers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaded:
    """A rationale by weight."""

    question: Asked
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """What one stage weighed.

    Args:
        taken_by: stages that read the weights.
        num_rationales, num_weights: weighed rationales, and spans in them; num_rationales counts empty ones too.
        mean: of all weights; None where there are none.
        bins: how many weights lie in each tenth of [0, 1]; 1 belongs to the last.
        thirds: where the weights divide; None where there are none.
        class_means: mean weight of digits and operators, names, fillers, all, where the stage noted them.
        curves: figures by epoch, where the weights were learned.
        shaded: a few rationales.
        notes: whatever else the stage told.
    """

    name: str
    uses: str
    taken_by: tuple[str, ...]
    num_rationales: int
    num_weights: int
    mean: float | None
    bins: tuple[int, ...]
    thirds: Thirds | None
    class_means: tuple[Note, ...]
    curves: tuple[Curves, ...]
    shaded: tuple[Shaded, ...]
    notes: tuple[Note, ...]


class Weighed(NamedTuple):
    """A weighting, with the weights of the rationales that the page shows, by id."""

    facts: Weighting
    rows: Mapping[str, TokenWeights]


class _Counts(NamedTuple):
    """Weights by thousandths, their sum, the number of rationales, and the rows to show."""

    grains: list[int]
    total: float
    num_rationales: int
    rows: dict[str, TokenWeights]


def read_weightings(archive: Archive, drawn: Drawn) -> tuple[Weighed, ...]:
    """Every output of token weights, in the order of the run."""
    sources = made_by(archive, "weighting", TokenWeights)
    return tuple(
        _weighed(archive, source, drawn, most=_NUM_BESIDE if index else None)
        for index, source in enumerate(sources)
    )


def _weighed(archive: Archive, source: Source, drawn: Drawn, *, most: int | None) -> Weighed:
    counts = _count(archive, source, drawn)
    unit, notes = source.unit, source.unit.manifest.notes
    num_weights = sum(counts.grains)
    thirds = _thirds(counts.grains) if num_weights else None
    shown = [id_ for id_ in drawn.shown if id_ in counts.rows][:most]
    curves = read_curves(notes)
    means = _class_means(notes)
    facts = Weighting(
        name=unit.name,
        uses=unit.uses,
        taken_by=takers(archive, source),
        num_rationales=counts.num_rationales,
        num_weights=num_weights,
        mean=counts.total / num_weights if num_weights else None,
        bins=_bins(counts.grains),
        thirds=thirds,
        class_means=means,
        curves=curves,
        shaded=tuple(
            Shaded(
                question=drawn.asked(id_),
                pieces=pieces(drawn.rationales[id_].text, counts.rows[id_], thirds),
            )
            for id_ in shown
            if thirds is not None
        ),
        notes=flat_notes(notes, without=_shown_notes(notes)),
    )
    return Weighed(facts, counts.rows)


def _count(archive: Archive, source: Source, drawn: Drawn) -> _Counts:
    sizes: defaultdict[int, int] = defaultdict(int)
    total, num_rationales = 0.0, 0
    rows: dict[str, TokenWeights] = {}
    for row in archive.read(*source, TokenWeights):
        num_rationales += 1
        total += sum(row.weights)
        for weight in row.weights:  # millions pass here
            sizes[int(weight * _GRAIN + 0.5)] += 1
        if row.rationale_id in drawn.rationales:
            rows[row.rationale_id] = row
    grains = [0] * (_GRAIN + 1)
    for grain, size in sizes.items():
        grains[min(max(grain, 0), _GRAIN)] += size
    return _Counts(grains, total, num_rationales, rows)


def _thirds(grains: Sequence[int]) -> Thirds:
    """To half a thousandth: the upper edge of the grain in which a third of the weights is reached."""
    known = [grain for grain, size in enumerate(grains) if size]
    reached = list(accumulate(grains))

    def at(share: float) -> float:
        grain = next(grain for grain in known if reached[grain] >= share * reached[-1])
        return (grain + 0.5) / _GRAIN

    return Thirds(low=at(1 / 3), high=at(2 / 3), least=known[0] / _GRAIN, most=known[-1] / _GRAIN)


def _bins(grains: Sequence[int]) -> tuple[int, ...]:
    width = _GRAIN // NUM_BINS
    ends = [width * (index + 1) for index in range(NUM_BINS)]
    ends[-1] = _GRAIN + 1
    starts = [0, *ends[:-1]]
    return tuple(sum(grains[start:end]) for start, end in zip(starts, ends, strict=True))


def _class_means(notes: Mapping[str, Any]) -> tuple[Note, ...]:
    """The note `mean_weights`, from what should weigh most to what should weigh least; notes come sorted by name."""
    noted = notes.get("mean_weights")
    if not isinstance(noted, Mapping):
        return ()
    known = [name for name in _CLASSES if name in noted]
    names = [*known, *(name for name in noted if name not in known)]
    return tuple(Note(name.replace("_", " "), number(noted, name)) for name in names)


def _shown_notes(notes: Mapping[str, Any]) -> tuple[str, ...]:
    """Those that have a place of their own."""
    return ("mean_weights", *(name for name, value in notes.items() if isinstance(value, list)))
