"""What the run was made from: how many questions, and how many rationales were written and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpod.runner import Rationale
from kpod.stages.report._formats import Share
from kpod.stages.report._notes import Note, flat_notes, number
from kpod.stages.report._wired import Source, sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit

# In the order in which a set is split, and in which filter.verified judges; archives keep no order.
_SPLITS = ("train", "validation", "test")
_RUNGS = (
    "read", "truncated", "no_answer", "wrong", "arithmetic", "no_majority", "outvoted", "leaked", "length", "duplicates",
    "over_limit", "kept",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Questions that one stage read.

    Args:
        splits: number of questions by output.
        origins: what was read from outside: name and content or revision.
        notes: whatever the stage told.
    """

    name: str
    uses: str
    splits: dict[str, int]
    origins: tuple[str, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Yield:
    """What a teacher wrote or a filter kept.

    Args:
        num_before: rationales that came in; None for a teacher.
        num_after: rationales that came out.
        kept: the second of the first.
        ladder: what a filter read, dropped at each of its rungs, and kept; rungs at which nothing was dropped are left out.
        notes: whatever else the stage told.
    """

    name: str
    uses: str
    num_before: int | None
    num_after: int
    kept: Share | None
    ladder: tuple[Note, ...]
    notes: tuple[Note, ...]


def read_data_sets(archive: Archive) -> tuple[DataSet, ...]:
    """Every unit of the kind `data`."""
    return tuple(
        DataSet(
            name=unit.name,
            uses=unit.uses,
            splits=_counts(unit),
            origins=tuple(_origins(archive, unit)),
            notes=flat_notes(unit.manifest.notes, without=("questions",)),
        )
        for unit in archive.units.values()
        if unit.uses.startswith("data.")
    )


def read_yields(archive: Archive) -> tuple[Yield, ...]:
    """Every unit of the kinds `teacher` and `filter`."""
    return tuple(
        _yield(archive, unit)
        for unit in archive.units.values()
        if unit.uses.startswith(("teacher.", "filter."))
    )


def _yield(archive: Archive, unit: ArchivedUnit) -> Yield:
    before = [_num_records(source) for source in sources_of(archive, unit, Rationale)]
    after = sum(_counts(unit).values())
    ladder = _ladder(unit.manifest.notes)
    kept = Share.of(after, sum(before)) if before and after <= sum(before) else None
    return Yield(
        name=unit.name,
        uses=unit.uses,
        num_before=sum(before) if before else None,
        num_after=after,
        kept=kept,
        ladder=ladder,
        notes=flat_notes(unit.manifest.notes, without=(*_RUNGS, "rungs") if ladder else ()),
    )


def _ladder(notes: Mapping[str, Any]) -> tuple[Note, ...]:
    """The rungs that were noted; none where the stage is no ladder."""
    if number(notes, "read") is None or number(notes, "kept") is None:
        return ()
    rungs = [Note(name, number(notes, name)) for name in _RUNGS]
    return tuple(rung for rung in rungs if rung.value or rung.name in {"read", "kept"})


def _num_records(source: Source) -> int:
    return source.unit.manifest.outputs[source.output].num_records or 0


def _counts(unit: ArchivedUnit) -> dict[str, int]:
    outputs = unit.manifest.outputs
    names = sorted(outputs, key=lambda name: _SPLITS.index(name) if name in _SPLITS else 3)
    sizes = {name: outputs[name].num_records for name in names}
    return {name: size for name, size in sizes.items() if size is not None}


def _origins(archive: Archive, unit: ArchivedUnit) -> list[str]:
    """What the unit read from outside, in words."""
    rows: list[Mapping[str, Any]] = archive.facts["sources"]
    return [
        f"{row['original']} ({', '.join(_fact(name, value) for name, value in row['fact'].items())})"
        for row in rows
        if row["unit"] == unit.name
    ]


def _fact(name: str, value: object) -> str:
    text = str(value)
    return f"{name} {text[:12]}" if name in {"sha256", "revision", "commit"} else f"{name} {text}"
