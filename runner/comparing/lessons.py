"""What two students were taught, searched for what is like a question that one of them alone got right.

Most of it is never looked at: a file is read when it is asked for, and of rationales and steps only those of the questions
that were found, unless the two students were taught differently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.comparing.likeness import Likeness, Near
from kpod.runner.comparing.reading import naming
from kpod.runner.comparing.renaming import names_in_a

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A training question like the one that flipped, in both runs.

    Args:
        question_id, text: its own.
        likeness: of the two questions, in [0, 1].
        cluster: in A and in B, B's called as A calls it; None where there is none.
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


class School:
    """What one student was trained on; nothing where it is none (a base model)."""

    def __init__(self, archive: Archive, student: ArchivedUnit | None) -> None:
        self._archive = archive
        wires = {} if student is None else student.wires
        self._is_one = "rationales" in wires
        self._questions = wires.get("questions", ()) if self._is_one else ()
        self._rationales = wires.get("rationales", ())

    @cached_property
    def contents(self) -> str:
        """The digests of all that can be read here: two students of equal contents went to one school, also in two runs."""
        units = self._archive.units.values()
        read = [
            [wire.partition(".")[2], unit.manifest.outputs[wire.partition(".")[2]].digest]
            for wire in (*self._questions, *self._rationales)
            for unit in units
            if unit.stage == wire.partition(".")[0] and wire.partition(".")[2] in unit.manifest.outputs
        ]  # fmt: skip
        also = [
            [name, unit.manifest.outputs[name].digest]
            for unit in units
            for name in ("clusters", "difficulty")
            if name in unit.manifest.outputs
        ]
        return repr([self._is_one, read, also])

    @cached_property
    def questions(self) -> dict[str, str]:
        """Their texts, by id."""
        return {row["id"]: row["text"] for row in rows_behind(self._archive, self._questions)}

    @cached_property
    def rationales(self) -> dict[str, dict[str, str]]:
        """All texts, by question and by their own id."""
        return self._by_question(rows_behind(self._archive, self._rationales))

    def rationales_of(self, questions: Collection[str]) -> dict[str, dict[str, str]]:
        """As `rationales`, of these questions, and perhaps of others."""
        if "rationales" in self.__dict__:
            return self.rationales
        return self._by_question(rows_behind(self._archive, self._rationales, questions))

    def _by_question(self, rows: Iterator[Row]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for row in rows:
            found.setdefault(row["question_id"], {})[row["id"]] = row["text"]
        return found

    @cached_property
    def clusters(self) -> dict[str, int]:
        """By question."""
        unit = self._last("clusters")
        rows = self._archive.rows(unit, "clusters") if unit else ()
        return {row["question_id"]: row["cluster"] for row in rows}

    def nats_of(self, taught: Mapping[str, Collection[str]]) -> dict[str, float]:
        """Nats of the hardest of the rationales of each question, summed over its steps.

        Args:
            taught: ids of its rationales, by question.
        """
        unit = self._last("difficulty")
        if unit is None:
            return {}
        question_of = {one: key for key, ids in taught.items() for one in ids}
        found: dict[str, float] = {}
        for row in naming(self._archive.content(unit, "difficulty"), question_of):
            key = question_of.get(row["rationale_id"])
            if key is not None:
                found[key] = max(sum(step[2] for step in row["steps"]), found.get(key, 0.0))
        return found

    def _last(self, output: str) -> ArchivedUnit | None:
        """The last unit that has such an output, for a student."""
        units = [unit for unit in self._archive.units.values() if output in unit.manifest.outputs]
        return units[-1] if units and self._is_one else None


class Lessons:
    """What two students were taught, to be searched for what is like a question."""

    def __init__(self, a: School, b: School) -> None:
        self._schools = (a, b)
        self._texts = a.questions | b.questions
        self._all = Likeness(self._texts)
        unlike = () if a is b else [
            key for key in self._texts if a.rationales.get(key, {}) != b.rationales.get(key, {})
        ]  # fmt: skip
        self._unlike = Likeness({key: self._texts[key] for key in unlike})
        self._names = names_in_a(a.clusters, b.clusters)

    def like(self, texts: Sequence[str]) -> list[tuple[Lesson, ...]]:
        """For each text the training question most like it, and the one of those that were not taught alike."""
        found = [
            [near for near in dict.fromkeys(both) if near is not None]
            for both in zip(self._all.nearest(texts), self._unlike.nearest(texts), strict=True)
        ]
        lessons = self._lessons({near for some in found for near in some})
        return [tuple(lessons[near] for near in some) for some in found]

    def _lessons(self, found: Collection[Near]) -> dict[Near, Lesson]:
        keys = {near.key for near in found}
        a, b = self._schools
        facts_a = _facts(a, keys)
        facts_b = facts_a if a is b else _facts(b, keys)
        return {near: self._lesson(near, facts_a, facts_b) for near in found}

    def _lesson(self, near: Near, a: _Facts, b: _Facts) -> Lesson:
        key = near.key
        left, right = a.taught.get(key, {}), b.taught.get(key, {})
        cluster_a, cluster_b = (school.clusters.get(key) for school in self._schools)
        return Lesson(
            question_id=key, text=self._texts[key], likeness=round(near.alike, 3),
            cluster=(cluster_a, None if cluster_b is None else self._names[cluster_b]), nats=(a.nats.get(key), b.nats.get(key)),
            only_a=tuple(said for one, said in left.items() if one not in right),
            only_b=tuple(said for one, said in right.items() if one not in left),
        )  # fmt: skip


class _Facts(NamedTuple):
    """What a student was taught of some questions: texts by question and by their own id, and nats by question."""

    taught: Mapping[str, Mapping[str, str]]
    nats: Mapping[str, float]


def _facts(school: School, questions: Collection[str]) -> _Facts:
    rationales = school.rationales_of(questions)
    taught = {key: rationales[key] for key in questions if key in rationales}
    return _Facts(taught, school.nats_of(taught))


def rows_behind(
    archive: Archive, wires: Sequence[str], ids: Collection[str] | None = None
) -> Iterator[Row]:
    """The rows behind wires: `stage.output`.

    Args:
        archive: that has them.
        wires: of an input.
        ids: where given, rows that name none of them may be left out.
    """
    for wire in wires:
        stage, _, output = wire.partition(".")
        for unit in archive.units.values():
            if unit.stage == stage and output in unit.manifest.outputs:
                if ids is None:
                    yield from archive.rows(unit, output)
                else:
                    yield from naming(archive.content(unit, output), ids)
