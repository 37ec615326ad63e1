"""Single training questions, followed through the method: weights, steps, cluster, and when each step has to be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpod.runner import Curriculum, Difficulty
from kpod.stages.report._asked import Asked
from kpod.stages.report._clusters import Grouped
from kpod.stages.report._curriculum import Planned, in_row
from kpod.stages.report._difficulty import Measured
from kpod.stages.report._notes import Note
from kpod.stages.report._shades import Piece, pieces
from kpod.stages.report._weights import Weighed

if TYPE_CHECKING:
    from kpod.stages.report._method import Found
    from kpod.stages.report._taught import Drawn

# More columns are a table of their own; the sections of the stages show them all.
_MOST_COLUMNS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonStep:
    """One step of a rationale.

    Args:
        pieces: its text, shaded where weights are known.
        nats: its difficulty by each stage of `Lesson.difficulties`; None where that stage cuts the text elsewhere.
        epochs: when it is written, by each stage of `Lesson.curricula`: "1–3, 6", "" for never.
    """

    pieces: tuple[Piece, ...]
    nats: tuple[float | None, ...]
    epochs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One training question and its rationale.

    Args:
        answer: what was read from the rationale, or None.
        is_hinted: whether its teacher was told the gold answer.
        weights: id of the stage that the text is shaded by; "" where there is none.
        clusters: the question's cluster by each stage that groups.
        difficulties, curricula: ids of the stages behind the columns.
    """

    rationale_id: str
    question: Asked
    source: str
    answer: str | None
    is_hinted: bool
    weights: str
    clusters: tuple[Note, ...]
    difficulties: tuple[str, ...]
    curricula: tuple[str, ...]
    steps: tuple[LessonStep, ...]


def read_lessons(found: Found, drawn: Drawn) -> tuple[Lesson, ...]:
    """The rationales that every section shows, where the run has a stage of the method that knows them."""
    return tuple(_lesson(found, drawn, id_) for id_ in drawn.shown if _is_known(found, id_))


def _is_known(found: Found, id_: str) -> bool:
    by_rationale = (found.weightings, found.difficulties, found.plans)
    return any(id_ in stage.rows for stages in by_rationale for stage in stages)


def _lesson(found: Found, drawn: Drawn, id_: str) -> Lesson:
    rationale = drawn.rationales[id_]
    weighed = next((each for each in found.weightings if id_ in each.rows), None)
    measured = [each for each in found.difficulties if id_ in each.rows][:_MOST_COLUMNS]
    planned = [each for each in found.plans if id_ in each.rows][:_MOST_COLUMNS]
    return Lesson(
        rationale_id=id_,
        question=drawn.asked(id_),
        source=drawn.source,
        answer=rationale.answer,
        is_hinted=rationale.is_hinted,
        weights=weighed.facts.name if weighed else "",
        clusters=_clusters(found.groupings, rationale.question_id),
        difficulties=tuple(each.facts.name for each in measured),
        curricula=tuple(each.facts.name for each in planned),
        steps=tuple(_steps(rationale.text, id_, weighed, measured, planned)),
    )


def _clusters(groupings: Sequence[Grouped], question_id: str) -> tuple[Note, ...]:
    return tuple(
        Note(each.facts.name, each.rows[question_id])
        for each in groupings
        if question_id in each.rows
    )


def _steps(
    text: str,
    id_: str,
    weighed: Weighed | None,
    measured: Sequence[Measured],
    planned: Sequence[Planned],
) -> Iterator[LessonStep]:
    """The steps of the first stage that measured them; without one, the rationale as a whole."""
    rows = [each.rows[id_] for each in measured]
    plans = [each.rows[id_] for each in planned]
    spans = [(start, end) for start, end, _ in rows[0].steps] if rows else [(0, len(text))]
    for start, end in spans:
        yield LessonStep(
            pieces=_pieces(text, id_, weighed, start, end),
            nats=tuple(_nats(row, start, end) for row in rows),
            epochs=tuple(_epochs(plan, start) for plan in plans),
        )


def _pieces(
    text: str, id_: str, weighed: Weighed | None, start: int, end: int
) -> tuple[Piece, ...]:
    if weighed is None or weighed.facts.thirds is None:
        return (Piece(text[start:end], None, 0),)
    return pieces(text, weighed.rows[id_], weighed.facts.thirds, start=start, end=end)


def _nats(row: Difficulty, start: int, end: int) -> float | None:
    return next((nats for low, high, nats in row.steps if (low, high) == (start, end)), None)


def _epochs(plan: Curriculum, start: int) -> str:
    """The epochs at which what begins here is not given: "1–3, 6"."""
    runs: list[list[int]] = []
    for epoch, cut in enumerate(plan.cut, start=1):
        if cut <= start:
            if runs and runs[-1][-1] == epoch - 1:
                runs[-1].append(epoch)
            else:
                runs.append([epoch])
    return ", ".join(in_row(run) for run in runs)
