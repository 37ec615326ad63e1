"""Questions that one of two students alone got right: both texts, and what training had to do with such questions.

A test question has no rationale of its own, so the training question most like it stands for it: its cluster, how hard its
steps were, and the rationales that only one of the two students was taught.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.comparing.lessons import Lesson, Lessons, School, rows_behind
from kpod.runner.comparing.reading import Reading
from kpod.runner.comparing.scores import Arm, Score

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One question.

    Args:
        kind: fixed: B alone is right; broken: A alone.
        gold: the gold answer.
        texts, answers: what A and B said, and what was read out of it.
        lessons: the training question most like it; and the most alike that was not taught alike, where that is another.
    """

    question_id: str
    question: str
    gold: str | None
    kind: Literal["fixed", "broken"]
    texts: tuple[str, str]
    answers: tuple[str | None, str | None]
    lessons: tuple[Lesson, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class FlipFinder:
    """Finds flips between the arms of two runs; what students were taught is read once, however many arms share it."""

    def __init__(self, a: Archive, b: Archive, reading: Reading) -> None:
        self._runs = (a, b)
        self._reading = reading
        self._schools: dict[str, School] = {}
        self._lessons: dict[tuple[str, str], Lessons] = {}

    def flips(self, score: Score, *, most: int) -> list[Flip]:
        """The questions of a comparison that flipped, fixed ones first; at most so many of each kind."""
        changed: list[tuple[str, Literal["fixed", "broken"]]] = [
            *[(key, "fixed") for key, value in score.differences.items() if value > 0][:most],
            *[(key, "broken") for key, value in score.differences.items() if value < 0][:most],
        ]
        if not changed:
            return []
        a, b = self._runs
        wanted = {key for key, _ in changed}
        asked = {row["id"]: row for row in rows_behind(a, score.a.unit.wires.get("questions", ()), wanted) if row["id"] in wanted}  # fmt: skip
        said_a, said_b = self._said(a, score.a, wanted), self._said(b, score.b, wanted)
        texts = [_text(asked.get(key)) for key, _ in changed]
        return [
            Flip(
                question_id=key, question=text, gold=asked.get(key, {}).get("answer"), kind=kind,
                texts=(said_a[key]["text"], said_b[key]["text"]), answers=(said_a[key]["answer"], said_b[key]["answer"]),
                lessons=lessons,
            )
            for (key, kind), text, lessons in zip(changed, texts, self._taught(score).like(texts), strict=True)
        ]  # fmt: skip

    def _said(self, archive: Archive, arm: Arm, wanted: set[str]) -> dict[str, Row]:
        """The first sample of each of these questions."""
        found: dict[str, Row] = {}
        for row in self._reading.predictions(archive, arm.unit):
            if row["question_id"] in wanted:
                found.setdefault(row["question_id"], row)
        return found

    def _taught(self, score: Score) -> Lessons:
        sides = [
            self._school(archive, archive.units.get(str(arm.unit.element)))
            for archive, arm in zip(self._runs, (score.a, score.b), strict=True)
        ]
        key = (sides[0].contents, sides[1].contents)
        if key not in self._lessons:
            self._lessons[key] = Lessons(*sides)
        return self._lessons[key]

    def _school(self, archive: Archive, student: ArchivedUnit | None) -> School:
        school = School(archive, student)
        return self._schools.setdefault(school.contents, school)


def _text(question: Row | None) -> str:
    """The question's; "" where an evaluation made its questions up, so that no stage has them."""
    return "" if question is None else str(question["text"])
