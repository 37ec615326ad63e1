"""Two archives side by side: values with their origins, environment, outputs and scores; facts only, printing is elsewhere.

What is said of scores here is about these two students on these questions; `seeds.py` speaks of methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.canonical import flat
from kpod.runner.errors import KpodError
from kpod.runner.record import Metric, Prediction
from kpod.runner.significance import mcnemar

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs between two runs; equal things are left out, but for outputs.

    Args:
        values: (name, A, origin, B, origin) of the resolved recipe.
        environment: (what, A, B).
        outputs: (unit, same | differs | only in A | only in B, A, B) with number of records and digest.
    """

    values: list[Row]
    environment: list[Row]
    outputs: list[Row]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One evaluated model of one run, with its verdict on each question (None: no gold answer)."""

    name: str
    data: str
    n: int
    accuracy: float | None
    low: float | None
    high: float | None
    verdicts: dict[str, bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Two arms on the questions that both answered.

    Args:
        num_shared: scored questions in both.
        only_a, only_b: answered rightly by one of them alone.
    """

    name: str
    a: Arm
    b: Arm
    num_shared: int
    only_a: int
    only_b: int

    @property
    def p(self) -> float:
        """Exact McNemar test: two students that are right equally often would differ this much or more."""
        return mcnemar(self.only_a, self.only_b)

    @property
    def sentence(self) -> str:
        """What can be said of these two students."""
        if self.num_shared == 0:
            return "they share no scored question, so nothing can be compared"
        said = f"on {self.num_shared} shared questions: {self.only_b} right only in B, {self.only_a} right only in A"
        p = "p < 0.0001" if self.p < 1e-4 else f"p = {self.p:.4f}"
        sets = "the same questions" if self.a.data == self.b.data else "the question sets differ"
        return f"{said}; exact McNemar {p}; {sets}"

    def to_json(self) -> dict[str, Any]:
        """As JSON, without the single verdicts."""
        sides = {
            side: {k: v for k, v in asdict(arm).items() if k != "verdicts"}
            for side, arm in (("a", self.a), ("b", self.b))
        }
        return {
            "name": self.name,
            **sides,
            "num_shared": self.num_shared,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "mcnemar_p": self.p,
            "students": self.sentence,
        }


def compare_runs(a: Archive, b: Archive) -> Comparison:
    """Everything but the scores."""
    return Comparison(
        values=list(_values(a, b)),
        environment=list(_environment(a, b)),
        outputs=list(_outputs(a, b)),
    )


def _values(a: Archive, b: Archive) -> Iterator[Row]:
    left, right = dict(flat(a.resolved)), dict(flat(b.resolved))
    for name in dict.fromkeys([*left, *right]):
        if left.get(name) != right.get(name):
            origins = [
                archive.origins.get(name, "default") if name in side else ""
                for archive, side in ((a, left), (b, right))
            ]
            yield name, left.get(name, "absent"), origins[0], right.get(name, "absent"), origins[1]


def _environment(a: Archive, b: Archive) -> Iterator[Row]:
    for topic in ("machine", "capability", "git", "packages"):
        left, right = dict(flat(a.facts[topic] or {})), dict(flat(b.facts[topic] or {}))
        for name in sorted({*left, *right}):
            if left.get(name) != right.get(name):
                yield f"{topic} {name}", left.get(name, "absent"), right.get(name, "absent")


def _outputs(a: Archive, b: Archive) -> Iterator[Row]:
    for name in dict.fromkeys([*a.units, *b.units]):
        left, right = a.units.get(name), b.units.get(name)
        if left is None or right is None:
            yield name, "only in B" if left is None else "only in A", "", ""
            continue
        for output in dict.fromkeys([*left.manifest.outputs, *right.manifest.outputs]):
            stored = [unit.manifest.outputs.get(output) for unit in (left, right)]
            told = [
                "absent"
                if one is None
                else f"{'' if one.num_records is None else f'{one.num_records:,} rows '}{one.digest[:8]}"
                for one in stored
            ]
            is_same = None not in stored and stored[0].digest == stored[1].digest  # type: ignore[union-attr] # just checked
            yield f"{name}.{output}", "same" if is_same else "differs", told[0], told[1]


def scored_units(archive: Archive) -> dict[str, ArchivedUnit]:
    """The units that scored a model, by the arm's name; by their own where the recipe has several evaluations."""
    scored = [
        unit
        for unit in archive.units.values()
        if "metrics" in unit.manifest.outputs and unit.element
    ]
    is_one_stage = len({unit.stage for unit in scored}) == 1
    return {str(unit.element) if is_one_stage else unit.name: unit for unit in scored}


def arms_of(archive: Archive, only: str | None) -> dict[str, Arm]:
    """The evaluated arms of a run, by name; one of them where `only` names it.

    Raises:
        KpodError: there is no such arm.
    """
    arms = {}
    for arm, unit in scored_units(archive).items():
        metric = next(archive.read(unit, "metrics", Metric))
        verdicts = {
            row.question_id: row.is_correct
            for row in archive.read(unit, "predictions", Prediction)
            if row.sample == 0
        }
        arms[arm] = Arm(
            name=arm,
            data=metric.data,
            n=metric.n,
            accuracy=metric.accuracy,
            low=metric.low,
            high=metric.high,
            verdicts=verdicts,
        )
    if only is None:
        return arms
    if only not in arms:
        raise KpodError(f"{archive.name} has no evaluated arm '{only}'\nallowed: {', '.join(arms)}")
    return {only: arms[only]}


def compare_arms(a: dict[str, Arm], b: dict[str, Arm], *, is_named: bool) -> list[Score]:
    """Arms of the same name beside each other; the two that were named, where they were."""
    if is_named:
        (left,), (right,) = a.values(), b.values()
        return [_score(f"{left.name} / {right.name}", left, right)]
    return [_score(name, a[name], b[name]) for name in a if name in b]


def _score(name: str, a: Arm, b: Arm) -> Score:
    shared = [
        key
        for key, verdict in a.verdicts.items()
        if verdict is not None and b.verdicts.get(key) is not None
    ]
    only_a = sum(bool(a.verdicts[key]) and not b.verdicts[key] for key in shared)
    only_b = sum(bool(b.verdicts[key]) and not a.verdicts[key] for key in shared)
    return Score(name=name, a=a, b=b, num_shared=len(shared), only_a=only_a, only_b=only_b)
