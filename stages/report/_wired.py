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


def made_by(archive: Archive, kind: str, record: type[Record]) -> list[Source]:
    """The outputs of stages of one kind that hold records of this type.

    First those that the last arm of the recipe's comparison rests on, then the others (controls, ablations), each in the order
    of the run.
    """
    named = [
        Source(unit, output)
        for unit in archive.units.values()
        if unit.uses.startswith(f"{kind}.")
        for output in unit.manifest.outputs
    ]
    found = [source for source in named if holds(archive, source, record)]
    primary: list[str] = archive.facts["primary"]
    ground = _ground(archive, primary[-1]) if primary else set()
    return sorted(found, key=lambda source: f"{source.unit.stage}.{source.output}" not in ground)


def _ground(archive: Archive, stage: str) -> set[str]:
    """All wires that lead to a stage, near and far."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        here = waiting.pop()
        for unit in archive.units.values():
            if unit.stage == here:
                new = {wire for wires in unit.wires.values() for wire in wires} - found
                found |= new
                waiting += [wire.partition(".")[0] for wire in new]
    return found


def takers(archive: Archive, source: Source, *, kind: str = "", on: str = "") -> tuple[str, ...]:
    """The stages that an output is wired to; only those of a kind, or on the input of a name, where these are given."""
    wire = f"{source.unit.stage}.{source.output}"
    found = (
        unit.stage
        for unit in archive.units.values()
        for name, wires in unit.wires.items()
        if wire in wires and on in {"", name} and unit.uses.startswith(kind)
    )
    return tuple(dict.fromkeys(found))
