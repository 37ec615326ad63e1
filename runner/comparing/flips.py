"""Questions that one of two students alone got right: both texts, and what training had to do with such questions.

A test question has no rationale of its own, so the training question most like it stands for it: its cluster, how hard its
steps were, and the rationales that only one of the two students was taught.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.comparing.likeness import Likeness
from kpod.runner.comparing.scores import Arm, Score

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A training question like the one that flipped, in both runs.

    Args:
        question_id, text: its own.
        likeness: of the two questions, in [0, 1].
        cluster: in A and in B; None where there is none.
        nats: sum over the steps of its hardest rationale, in A and in B; None where nobody measured.
        only_a, only_b: texts of rationales that one student alone was taught.
    """

    question_id: str
    text: str
    likeness: float
    cluster: tuple[int | None, int | None]
    nats: tuple[float | None, float | None]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


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


@dataclass(slots=True)
class _School:
    """What one student was taught, by question."""

    questions: dict[str, str] = field(default_factory=dict)
    rationales: dict[str, dict[str, str]] = field(default_factory=dict)
    clusters: dict[str, int] = field(default_factory=dict)
    nats: dict[str, float] = field(default_factory=dict)


class FlipFinder:
    """Finds flips between the arms of two runs; what students were taught is read once, however many arms share it."""

    def __init__(self, a: Archive, b: Archive) -> None:
        self._runs = (a, b)
        self._schools: dict[str, _School] = {}
        self._lessons: dict[tuple[str, str], _Lessons] = {}

    def flips(self, score: Score, *, most: int) -> list[Flip]:
        """The questions of a comparison that flipped, fixed ones first; at most so many of each kind."""
        changed = {
            kind: [key for key, value in score.differences.items() if value * sign > 0][:most]
            for kind, sign in (("fixed", 1), ("broken", -1))
        }
        wanted = {key for keys in changed.values() for key in keys}
        if not wanted:
            return []
        a, b = self._runs
        lessons = self._taught(score)
        wires = score.a.unit.wires.get("questions", ())
        asked = {row["id"]: row for row in _rows(a, wires) if row["id"] in wanted}
        said_a, said_b = _said(a, score.a, wanted), _said(b, score.b, wanted)
        kinds: tuple[Literal["fixed", "broken"], ...] = ("fixed", "broken")
        return [
            Flip(
                question_id=key, question=_text(asked.get(key)), gold=asked.get(key, {}).get("answer"), kind=kind,
                texts=(said_a[key]["text"], said_b[key]["text"]), answers=(said_a[key]["answer"], said_b[key]["answer"]),
                lessons=lessons.like(_text(asked.get(key))),
            )
            for kind in kinds
            for key in changed[kind]
        ]  # fmt: skip

    def _taught(self, score: Score) -> _Lessons:
        sides = [
            (archive, archive.units.get(str(arm.unit.element)))
            for archive, arm in zip(self._runs, (score.a, score.b), strict=True)
        ]
        key = (_taught_by(*sides[0]), _taught_by(*sides[1]))
        if key not in self._lessons:
            self._lessons[key] = _Lessons(*(self._school(*side) for side in sides))
        return self._lessons[key]

    def _school(self, archive: Archive, student: ArchivedUnit | None) -> _School:
        key = _taught_by(archive, student)
        if key not in self._schools:
            self._schools[key] = _school(archive, student)
        return self._schools[key]


def _text(question: Row | None) -> str:
    """The question's; "" where an evaluation made its questions up, so that no stage has them."""
    return "" if question is None else str(question["text"])


def _taught_by(archive: Archive, student: ArchivedUnit | None) -> str:
    """The contents of all that `_school` reads: two students of equal contents went to one school, also in two runs."""
    wires = {} if student is None else student.wires
    named = [wire for name in ("questions", "rationales") for wire in wires.get(name, ())]
    read = [
        [wire.partition(".")[2], unit.manifest.outputs[wire.partition(".")[2]].digest]
        for wire in named
        for unit in archive.units.values()
        if unit.stage == wire.partition(".")[0] and wire.partition(".")[2] in unit.manifest.outputs
    ]
    also = [
        [name, unit.manifest.outputs[name].digest]
        for unit in archive.units.values()
        for name in ("clusters", "difficulty")
        if name in unit.manifest.outputs
    ]
    return repr(["rationales" in wires, read, also])


class _Lessons:
    """What two students were taught, to be searched for what is like a question."""

    def __init__(self, a: _School, b: _School) -> None:
        self._schools = (a, b)
        self._texts = a.questions | b.questions
        unlike = [
            key for key in self._texts if a.rationales.get(key, {}) != b.rationales.get(key, {})
        ]
        self._all = Likeness(self._texts)
        self._unlike = Likeness({key: self._texts[key] for key in unlike})

    def like(self, text: str) -> tuple[Lesson, ...]:
        """The training question most like a text, and the one of those that were not taught alike."""
        found = [likeness.nearest(text) for likeness in (self._all, self._unlike)]
        return tuple(self._lesson(*near) for near in dict.fromkeys(found) if near is not None)

    def _lesson(self, key: str, alike: float) -> Lesson:
        a, b = self._schools
        left, right = a.rationales.get(key, {}), b.rationales.get(key, {})
        return Lesson(
            question_id=key, text=self._texts[key], likeness=round(alike, 3),
            cluster=(a.clusters.get(key), b.clusters.get(key)), nats=(a.nats.get(key), b.nats.get(key)),
            only_a=tuple(said for one, said in left.items() if one not in right),
            only_b=tuple(said for one, said in right.items() if one not in left),
        )  # fmt: skip


def _said(archive: Archive, arm: Arm, wanted: set[str]) -> dict[str, Row]:
    """The first sample of each of these questions."""
    found: dict[str, Row] = {}
    for row in archive.rows(arm.unit, "predictions"):
        if row["question_id"] in wanted:
            found.setdefault(row["question_id"], row)
    return found


def _school(archive: Archive, student: ArchivedUnit | None) -> _School:
    """What a student was trained on; nothing where it is none (a base model)."""
    school = _School()
    if student is None or "rationales" not in student.wires:
        return school
    school.questions = {
        row["id"]: row["text"] for row in _rows(archive, student.wires.get("questions", ()))
    }
    question_of: dict[str, str] = {}
    for row in _rows(archive, student.wires["rationales"]):
        question_of[row["id"]] = row["question_id"]
        school.rationales.setdefault(row["question_id"], {})[row["id"]] = row["text"]
    for unit in archive.units.values():
        if "clusters" in unit.manifest.outputs:
            rows = archive.rows(unit, "clusters")
            school.clusters = {row["question_id"]: row["cluster"] for row in rows}
        if "difficulty" in unit.manifest.outputs:
            school.nats = _hardest(archive.rows(unit, "difficulty"), question_of)
    return school


def _hardest(rows: Iterator[Row], question_of: Mapping[str, str]) -> dict[str, float]:
    """Nats of the hardest rationale of each question, summed over its steps."""
    found: dict[str, float] = {}
    for row in rows:
        key = question_of.get(row["rationale_id"])
        if key is not None:
            found[key] = max(sum(step[2] for step in row["steps"]), found.get(key, 0.0))
    return found


def _rows(archive: Archive, wires: Sequence[str]) -> Iterator[Row]:
    """The rows behind wires: `stage.output`."""
    for wire in wires:
        stage, _, output = wire.partition(".")
        for unit in archive.units.values():
            if unit.stage == stage and output in unit.manifest.outputs:
                yield from archive.rows(unit, output)
