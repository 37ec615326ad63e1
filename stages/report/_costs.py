"""What every stage did and what that cost; what the store saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpod.stages.report._notes import Note, flat_notes, number

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One unit.

    Args:
        status: run, hit (from the store) or shared (another run made it meanwhile).
        reason: why it ran; "" for a hit.
        seconds: in this run.
        made_seconds, made_cpu_seconds: that making it took, whenever that was.
        made_at: UTC, ISO 8601.
        made_by: the run that made it.
        wires: what it read, as `input: stage.output`.
        counts: records by output; None for a folder.
        key: 64 hex digits.
        notes: whatever the stage told.
        usd: paid for what it asked, whenever that was; None where it noted no price.
        tokens: that a model read and wrote for it, those of texts that were stored already among them; None where it noted none.
        saved_usd, saved_tokens: of texts that were stored already when it was made; None as above.
    """

    name: str
    uses: str
    status: str
    reason: str
    seconds: float
    made_seconds: float
    made_cpu_seconds: float
    made_at: str
    made_by: str
    wires: tuple[str, ...]
    counts: dict[str, int | None]
    key: str
    notes: tuple[Note, ...]
    usd: float | None
    tokens: int | None
    saved_usd: float | None
    saved_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Of the whole run.

    Args:
        seconds: of the run, from reading the recipe to the archive.
        num_units, num_executed: units, and those that this run executed.
        executed_seconds, executed_cpu_seconds: spent in those.
        saved_seconds, saved_cpu_seconds: that making the others took, once.
        usd, tokens: paid, read and written by models, in this run; None where no stage noted it.
        saved_usd, saved_tokens: paid, read and written for what came from the store; None as above.
    """

    seconds: float
    num_units: int
    num_executed: int
    executed_seconds: float
    executed_cpu_seconds: float
    saved_seconds: float
    saved_cpu_seconds: float
    usd: float | None
    tokens: int | None
    saved_usd: float | None
    saved_tokens: int | None


def read_stages(archive: Archive) -> tuple[StageRow, ...]:
    """Every unit, in the order of the run."""
    return tuple(_row(unit) for unit in archive.units.values())


def _row(unit: ArchivedUnit) -> StageRow:
    manifest = unit.manifest
    return StageRow(
        name=unit.name,
        uses=unit.uses,
        status=unit.status,
        reason=unit.reason,
        seconds=unit.seconds,
        made_seconds=manifest.seconds,
        made_cpu_seconds=manifest.cpu_seconds,
        made_at=manifest.made_at,
        made_by=manifest.made_by,
        wires=tuple(f"{name}: {', '.join(wires)}" for name, wires in unit.wires.items() if wires),
        counts={name: output.num_records for name, output in manifest.outputs.items()},
        key=manifest.key,
        notes=flat_notes(manifest.notes, without=("rungs",)),
        usd=number(manifest.notes, "usd"),
        tokens=_tokens(manifest.notes),
        saved_usd=number(saved_note(manifest.notes), "usd"),
        saved_tokens=_tokens(saved_note(manifest.notes)),
    )


def _tokens(notes: Mapping[str, Any]) -> int | None:
    found = _sum(number(notes, name) for name in ("tokens", "prompt_tokens", "completion_tokens"))
    return None if found is None else int(found)


def saved_note(notes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The note `saved` of a stage that found some of its texts stored."""
    noted = notes.get("saved")
    return noted if isinstance(noted, Mapping) else {}


def _sum(values: Iterable[float | None]) -> float | None:
    """None where nothing is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def totals(rows: tuple[StageRow, ...], *, seconds: float) -> Totals:
    """The sums."""
    executed = [row for row in rows if row.status == "run"]
    reused = [row for row in rows if row.status != "run"]
    tokens = _sum(row.tokens for row in executed)
    found = sum(row.saved_tokens or 0 for row in executed)
    saved_tokens = _sum([*(row.tokens for row in reused), *(r.saved_tokens for r in executed)])
    return Totals(
        seconds=seconds,
        num_units=len(rows),
        num_executed=len(executed),
        executed_seconds=sum(row.made_seconds for row in executed),
        executed_cpu_seconds=sum(row.made_cpu_seconds for row in executed),
        saved_seconds=sum(row.made_seconds for row in reused),
        saved_cpu_seconds=sum(row.made_cpu_seconds for row in reused),
        usd=_sum(row.usd for row in executed),
        tokens=None if tokens is None else int(tokens) - found,
        saved_usd=_sum([*(row.usd for row in reused), *(row.saved_usd for row in executed)]),
        saved_tokens=None if saved_tokens is None else int(saved_tokens),
    )
