"""Which archived outputs a unit was wired to, and what kind of records they hold."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Question, Record

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit


class Source(NamedTuple):
    """One output of one unit."""

    unit: ArchivedUnit
    output: str


def sources_of(archive: Archive, unit: ArchivedUnit, record: type[Record]) -> list[Source]:
    """The outputs that a unit was wired to, on any input, and that hold records of this type."""
    wires = dict.fromkeys(wire for wires in unit.wires.values() for wire in wires)
    named = [
        Source(made, output)
        for stage, _, output in (wire.partition(".") for wire in wires)
        for made in archive.units.values()
        if made.stage == stage and output in made.manifest.outputs
    ]
    return [source for source in named if holds(archive, source, record)]


def holds(archive: Archive, source: Source, record: type[Record]) -> bool:
    """Whether an output holds records of this type, by its first row; False where it has none."""
    unit, output = source
    if not unit.manifest.outputs[output].num_records:
        return False
    try:
        next(archive.read(unit, output, record), None)
    except (TypeError, KeyError):
        return False
    return True


def maker_of(archive: Archive, digest: str) -> str:
    """The stage whose output has this content; the start of the digest where it is not of this run."""
    for unit in archive.units.values():
        if any(output.digest == digest for output in unit.manifest.outputs.values()):
            return unit.stage
    return digest[:12]


def find_questions(archive: Archive, sources: list[Source], ids: Set[str]) -> dict[str, Question]:
    """The questions with these ids."""
    return {
        question.id: question for question in _questions(archive, sources) if question.id in ids
    }


def _questions(archive: Archive, sources: list[Source]) -> Iterator[Question]:
    for unit, output in sources:
        yield from archive.read(unit, output, Question)
