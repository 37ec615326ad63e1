"""A few of the rationales that students learned from, drawn by a hash of the id, so that none was picked by hand.

The sections on weights, difficulty and curriculum show the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Question, Rationale, content_id
from kpod.stages.report._asked import Asked, asked
from kpod.stages.report._passage import Passage, passage, shortened
from kpod.stages.report._wired import Source, find_questions, holds, sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit

_NUM_TAUGHT = 4
_NUM_SHOWN = 6
# A wider draw, in which a section may look for those that show what it is about.
_NUM_DRAWN = 40


class Drawn(NamedTuple):
    """The rationales that the page may show.

    Args:
        source: id of the stage that they came from; "" where there are none.
        rationales: by id, in the order in which they were drawn.
        questions: by id; one that the archive does not hold is not among them.
    """

    source: str
    rationales: Mapping[str, Rationale]
    questions: Mapping[str, Question]

    @property
    def shown(self) -> list[str]:
        """The ids of the first few, which every section shows."""
        return list(self.rationales)[:_NUM_SHOWN]

    def asked(self, rationale_id: str) -> Asked:
        """The question of one of the rationales."""
        question_id = self.rationales[rationale_id].question_id
        return asked(self.questions.get(question_id), question_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """One training question and a rationale that a student learned from.

    Args:
        source: id of the stage that the rationale came from.
        teacher: id of the stage of the model that wrote it, or the label that stood with it.
        is_hinted: whether its teacher was told the gold answer.
    """

    source: str
    question: Asked
    text: Passage
    answer: str | None
    verdict: str | None
    teacher: str
    count: int
    is_hinted: bool


def draw_rationales(archive: Archive) -> Drawn:
    """A few of what students learned from; without students, of what was verified or written last."""
    source, asking = _taught_from(archive)
    if source is None:
        return Drawn("", {}, {})
    order = nsmallest(
        _NUM_DRAWN, archive.read(*source, Rationale), key=lambda it: content_id("taught", it.id)
    )
    found = {each.id: each for each in order}
    questions = find_questions(archive, asking, {each.question_id for each in found.values()})
    return Drawn(source.unit.name, found, questions)


def read_taught(archive: Archive, drawn: Drawn) -> tuple[Taught, ...]:
    """The first of them, as they were written."""
    return tuple(
        _taught(archive, drawn, rationale)
        for rationale in list(drawn.rationales.values())[:_NUM_TAUGHT]
    )


def _taught(archive: Archive, drawn: Drawn, rationale: Rationale) -> Taught:
    question = drawn.questions.get(rationale.question_id)
    return Taught(
        source=drawn.source,
        question=drawn.asked(rationale.id),
        text=passage(rationale.text, question=question, answer=rationale.answer),
        answer=rationale.answer,
        verdict=rationale.verdict,
        teacher=_teacher(archive, rationale.teacher.removesuffix("+hint")),
        count=rationale.count,
        is_hinted=rationale.is_hinted,
    )


def _teacher(archive: Archive, teacher: str) -> str:
    """A content digest, or its first 16 digits, by the stage that has it; a label as it is."""
    if len(teacher) in {16, 64} and set(teacher) <= set("0123456789abcdef"):
        for unit in archive.units.values():
            if any(out.digest.startswith(teacher) for out in unit.manifest.outputs.values()):
                return unit.stage
    return shortened(teacher)


def _taught_from(archive: Archive) -> tuple[Source | None, list[Source]]:
    """The rationales to show, and where their questions are."""
    units = list(archive.units.values())
    for unit in units:
        if unit.uses.startswith("student.") and (wired := sources_of(archive, unit, Rationale)):
            return wired[0], sources_of(archive, unit, Question)
    for unit in reversed(_written(units)):
        own = [Source(unit, output) for output in unit.manifest.outputs]
        if made := [source for source in own if holds(archive, source, Rationale)]:
            return made[0], sources_of(archive, unit, Question)
    return None, []


def _written(units: Iterable[ArchivedUnit]) -> list[ArchivedUnit]:
    return [unit for unit in units if unit.uses.startswith(("teacher.", "filter."))]
