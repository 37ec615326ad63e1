"""How the students were trained: loss by epoch, tokens, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpod.runner import Rationale
from kpod.stages.report._notes import Note, flat_notes, number
from kpod.stages.report._wired import sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit

# Notes that have a column of their own.
_SHOWN = ("losses", "target_tokens", "processed_tokens", "tokens_per_s", "steps", "examples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """One training.

    Args:
        status: hit (trained by an earlier run), shared or run.
        seconds, cpu_seconds: of the whole stage, when it was executed.
        losses: mean nats a target token of each epoch; None where one is not finite; empty where none were noted.
        num_rationales: wired in; None where none are.
        num_examples: sequences trained on.
        target_tokens, processed_tokens: over all epochs; prompts count in the second only.
        tokens_per_s: processed.
        notes: whatever else the stage told.
    """

    name: str
    uses: str
    status: str
    seconds: float
    cpu_seconds: float
    losses: tuple[float | None, ...]
    num_rationales: int | None
    num_examples: float | None
    steps: float | None
    target_tokens: float | None
    processed_tokens: float | None
    tokens_per_s: float | None
    notes: tuple[Note, ...]


def read_students(archive: Archive) -> tuple[Student, ...]:
    """Every unit that trained, in the order of the run."""
    return tuple(
        _student(archive, unit)
        for unit in archive.units.values()
        if unit.uses.startswith("student.")
    )


def _student(archive: Archive, unit: ArchivedUnit) -> Student:
    notes = unit.manifest.notes
    rationales = sources_of(archive, unit, Rationale)
    counts = [made.manifest.outputs[output].num_records or 0 for made, output in rationales]
    return Student(
        name=unit.name,
        uses=unit.uses,
        status=unit.status,
        seconds=unit.manifest.seconds,
        cpu_seconds=unit.manifest.cpu_seconds,
        losses=_losses(notes.get("losses")),
        num_rationales=sum(counts) if counts else None,
        num_examples=number(notes, "examples"),
        steps=number(notes, "steps"),
        target_tokens=number(notes, "target_tokens"),
        processed_tokens=number(notes, "processed_tokens"),
        tokens_per_s=number(notes, "tokens_per_s"),
        notes=flat_notes(notes, without=_SHOWN),
    )


def _losses(noted: Any) -> tuple[float | None, ...]:
    """Losses from a list of numbers, or of objects with a `loss`."""
    if not isinstance(noted, list | tuple):
        return ()
    return tuple(
        number(item if isinstance(item, Mapping) else {"loss": item}, "loss") for item in noted
    )
