"""The ladder from samples to verified rationales: what each rung left, of how many questions, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import Question, Rationale
from kpod.stages.report._costs import saved_note
from kpod.stages.report._formats import Share
from kpod.stages.report._notes import number
from kpod.stages.report._wired import Source, holds, sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What was left after one rung.

    Args:
        stage, uses: whose rung it is.
        name: "written", "written with hints", the filter's rung, or "kept".
        dropped: rationales that left here; None for a teacher.
        rationales: that were left, identical samples as one.
        questions: questions with at least one of them, of all questions of that stage; None where these are not known.
        prompt_tokens, completion_tokens: of all its texts; None where the stage noted none, and on the rungs within it.
        usd, saved_usd: paid for them, and not paid because they were stored; None as above.
        seconds: that making it took, whenever that was; None on the rungs within a stage.
    """

    stage: str
    uses: str
    name: str
    dropped: int | None
    rationales: int
    questions: Share | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usd: float | None = None
    saved_usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Every teacher and filter, in the order of the run.

    Args:
        rungs: all of them.
        kept: questions with a rationale at the end; None where there is no rung.
        num_hinted: rationales at the end that were written with the answer as a hint.
        tokens, seconds: of all stages together; None where none noted it.
        usd: of all texts at the prices of the recipe, paid by these stages or by earlier ones; None as above.
        usd_a_question: that, by `kept`.
    """

    rungs: tuple[Rung, ...]
    kept: Share | None
    num_hinted: int
    tokens: int | None
    usd: float | None
    seconds: float
    usd_a_question: float | None


class _Counted(NamedTuple):
    rationales: int
    questions: int
    hinted: int


def read_ladder(archive: Archive) -> Ladder:
    """The rungs of every unit of the kinds `teacher` and `filter`."""
    units = [u for u in archive.units.values() if u.uses.startswith(("teacher.", "filter."))]
    counted = {unit.name: _count(archive, unit) for unit in units}
    rungs = [rung for unit in units for rung in _rungs(archive, unit, counted[unit.name])]
    kept = rungs[-1].questions if rungs else None
    tokens = _sum([rung.prompt_tokens for rung in rungs] + [r.completion_tokens for r in rungs])
    usd = _sum([rung.usd for rung in rungs] + [rung.saved_usd for rung in rungs])
    return Ladder(
        rungs=tuple(rungs),
        kept=kept,
        num_hinted=counted[units[-1].name].hinted if units else 0,
        tokens=None if tokens is None else int(tokens),
        usd=usd,
        seconds=sum(rung.seconds or 0.0 for rung in rungs),
        usd_a_question=usd / kept.count if usd is not None and kept and kept.count else None,
    )


def _count(archive: Archive, unit: ArchivedUnit) -> _Counted:
    """Rationales that a unit wrote, and their questions."""
    rationales = hinted = 0
    questions: set[str] = set()
    for output in unit.manifest.outputs:
        if holds(archive, Source(unit, output), Rationale):
            for rationale in archive.read(unit, output, Rationale):
                rationales += 1
                hinted += rationale.is_hinted
                questions.add(rationale.question_id)
    return _Counted(rationales, len(questions), hinted)


def _rungs(archive: Archive, unit: ArchivedUnit, counted: _Counted) -> Iterator[Rung]:
    asked = sources_of(archive, unit, Question)
    total = sum(source.unit.manifest.outputs[source.output].num_records or 0 for source in asked)
    is_filter = unit.uses.startswith("filter.")
    notes = unit.manifest.notes
    if is_filter:
        yield from _inner(unit, notes, total)
    name = "kept" if is_filter else "written with hints" if counted.hinted else "written"
    before = sum(
        source.unit.manifest.outputs[source.output].num_records or 0
        for source in sources_of(archive, unit, Rationale)
    )
    yield Rung(
        stage=unit.name,
        uses=unit.uses,
        name=name,
        dropped=before - counted.rationales if is_filter else None,
        rationales=counted.rationales,
        questions=_share(counted.questions, total),
        prompt_tokens=_whole(notes, "prompt_tokens"),
        completion_tokens=_whole(notes, "completion_tokens"),
        usd=number(notes, "usd"),
        saved_usd=number(saved_note(notes), "usd"),
        seconds=unit.manifest.seconds,
    )


def _inner(unit: ArchivedUnit, notes: Mapping[str, Any], total: int) -> Iterator[Rung]:
    """The rungs at which a filter dropped something, as it noted them."""
    rows = notes.get("rungs")
    if not isinstance(rows, list):
        return
    for row in rows:
        if isinstance(row, Mapping) and number(row, "dropped"):
            yield Rung(
                stage=unit.name,
                uses=unit.uses,
                name=str(row.get("rung", "")).replace("_", " "),
                dropped=_whole(row, "dropped"),
                rationales=_whole(row, "rationales") or 0,
                questions=_share(_whole(row, "questions") or 0, total),
            )


def _share(count: int, total: int) -> Share | None:
    """None where there is nothing to take a share of, or the notes do not fit."""
    return Share.of(count, total) if count <= total else None


def _whole(notes: Mapping[str, Any], name: str) -> int | None:
    value = number(notes, name)
    return None if value is None else int(value)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
