"""What became of every stage: whether its outputs are the same bytes, why not, what that cost, and what is in them now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.comparing.reading import Reading, differing
from kpod.runner.comparing.rows import BY_ID, Change, change_of, change_of_lines
from kpod.runner.errors import KpodError
from kpod.runner.keys import changes
from kpod.runner.registry import find_stage
from kpod.runner.stage import Stage

Status = Literal["same", "differs", "only in A", "only in B"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChange:
    """One unit of the graph in two runs.

    Args:
        unit, uses: its name and the stage's.
        status: of its outputs.
        causes: why it has another key, in words, the first cause first: another setting, other inputs, other code.
        outputs: what changed in each output that differs.
        seconds: that making the result took, in A and in B; None where a run has no such unit.
        usd: what the texts cost, likewise.
    """

    unit: str
    uses: str
    status: Status
    causes: tuple[str, ...] = ()
    outputs: tuple[Change, ...] = ()
    seconds: tuple[float | None, float | None] = (None, None)
    usd: tuple[float | None, float | None] = (None, None)
    digests: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "unit": self.unit,
            "uses": self.uses,
            "status": self.status,
            "causes": list(self.causes),
            "outputs": [change.to_json() for change in self.outputs],
            "seconds": list(self.seconds),
            "usd": list(self.usd),
            "digests": {name: list(pair) for name, pair in self.digests.items()},
        }


def compare_stages(a: Archive, b: Archive, reading: Reading) -> list[StageChange]:
    """Every unit of either run, in the order of the graph."""
    comparison, renamed = _Comparison(a, b, reading), _renamed(a, b)
    return [
        comparison.of(f"{name} / {renamed[name]}", a.units[name], b.units[renamed[name]])
        if name in renamed
        else comparison.of(name, a.units.get(name), b.units.get(name))
        for name in _in_order(a, b)
        if name not in renamed.values()
    ]


def _renamed(a: Archive, b: Archive) -> dict[str, str]:
    """Units that have another name in B and the very same result: by the name in A, that in B."""
    others = {unit.manifest.key: name for name, unit in b.units.items() if name not in a.units}
    return {
        name: others.pop(unit.manifest.key)
        for name, unit in a.units.items()
        if name not in b.units and unit.manifest.key in others
    }


def compare_arms_made(
    a: Archive, b: Archive, names: tuple[str, str], reading: Reading
) -> list[StageChange]:
    """The two units that made the models of two arms, beside each other; none where an arm is made of several units.

    Args:
        a: the run of one arm.
        b: the run of the other.
        names: ids of the stages that made their models.
        reading: of the comparison.
    """
    left, right = a.units.get(names[0]), b.units.get(names[1])
    if left is None or right is None:
        return []
    name = names[0] if names[0] == names[1] else " / ".join(names)
    return [_Comparison(a, b, reading).of(name, left, right)]


def _in_order(a: Archive, b: Archive) -> Iterator[str]:
    """The units of A in their order, those of B alone after the one that they follow in B."""
    after: dict[str | None, list[str]] = {}
    last: str | None = None
    for name in b.units:
        if name in a.units:
            last = name
        else:
            after.setdefault(last, []).append(name)
    yield from after.get(None, ())
    for name in a.units:
        yield name
        yield from after.get(name, ())


class _Comparison(NamedTuple):
    """Two runs, and what is read of them."""

    a: Archive
    b: Archive
    reading: Reading

    def of(self, name: str, left: ArchivedUnit | None, right: ArchivedUnit | None) -> StageChange:
        """A unit of each, or of one alone."""
        if left is None or right is None:
            unit = left or right
            assert unit is not None
            return StageChange(
                unit=name, uses=unit.uses, status="only in B" if left is None else "only in A",
                seconds=(_seconds(left), _seconds(right)), usd=(_usd(left), _usd(right)),
            )  # fmt: skip
        digests = {
            output: (_digest(left, output), _digest(right, output))
            for output in dict.fromkeys([*left.manifest.outputs, *right.manifest.outputs])
        }
        is_same = all(one == other for one, other in digests.values())
        causes = () if left.manifest.key == right.manifest.key else changes(left.manifest.preimage, right.manifest.preimage)  # fmt: skip
        return StageChange(
            unit=name, uses=right.uses, status="same" if is_same else "differs", causes=tuple(causes),
            outputs=() if is_same else tuple(self._changed_outputs(left, right, digests)),
            seconds=(_seconds(left), _seconds(right)), usd=(_usd(left), _usd(right)), digests=digests,
        )  # fmt: skip

    def _changed_outputs(
        self, left: ArchivedUnit, right: ArchivedUnit, digests: dict[str, tuple[str | None, str | None]]
    ) -> Iterator[Change]:  # fmt: skip
        """What changed inside the outputs that both have and that hold records."""
        for output, (one, other) in digests.items():
            if one is None or other is None or one == other:
                continue
            record = _record_name(right, output)
            if record is not None:
                yield self._change(record, output, left, right)

    def _change(self, record: str, output: str, left: ArchivedUnit, right: ArchivedUnit) -> Change:
        if record == "Prediction" and output == "predictions":
            rows = (self.reading.predictions(self.a, left), self.reading.predictions(self.b, right))
            return change_of(record, output, *rows)
        if record in BY_ID:
            found = differing(self.a.content(left, output), self.b.content(right, output))
            return change_of_lines(record, output, found)
        return change_of(record, output, self.a.rows(left, output), self.b.rows(right, output))


def _record_name(unit: ArchivedUnit, output: str) -> str | None:
    """The type of record of an output; None for folders, and where the stage (a plug-in's) is not installed."""
    if unit.manifest.outputs[output].num_records is None:
        return None
    try:
        found = find_stage(unit.uses)
    except KpodError:
        return None
    if not issubclass(found, Stage) or output not in found.outputs():
        return None
    return str(found.outputs()[output].record.__name__)


def _digest(unit: ArchivedUnit, output: str) -> str | None:
    stored = unit.manifest.outputs.get(output)
    return None if stored is None else stored.digest


def _seconds(unit: ArchivedUnit | None) -> float | None:
    return None if unit is None else unit.manifest.seconds


def _usd(unit: ArchivedUnit | None) -> float | None:
    """What the texts of a unit cost, as the stage noted it; None where it named no price."""
    noted = None if unit is None else unit.manifest.notes.get("usd")
    return float(noted) if isinstance(noted, int | float) else None
