"""Two evaluated arms on the questions that both answered: what one fixes and breaks, and whether chance alone would do that.

What is said here is about these two students on these questions; `seeds.py` speaks of methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.comparing.reading import Reading
from kpod.runner.errors import KpodError
from kpod.runner.record import Metric
from kpod.runner.significance import LEVEL, bootstrap_mean, holm, mcnemar, questions_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One evaluated model of one run.

    Args:
        name: as people name it.
        unit: the unit that scored it.
        data: content digest of the questions.
        n: scored questions.
        accuracy, low, high: share of right answers with its 95 % Wilson interval; None where nothing has a gold answer.
        answers: for each question the verdicts on its samples (None: no gold answer).
    """

    name: str
    unit: ArchivedUnit
    data: str
    n: int
    accuracy: float | None
    low: float | None
    high: float | None
    answers: dict[str, tuple[bool | None, ...]]

    def shares(self) -> dict[str, float]:
        """By question the share of its samples that are right; those that were not scored are left out."""
        scored = {
            key: [one for one in verdicts if one is not None]
            for key, verdicts in self.answers.items()
        }
        return {key: sum(found) / len(found) for key, found in scored.items() if found}


@dataclass(frozen=True, kw_only=True)
class Score:
    """Two arms on the questions that both answered.

    Args:
        name: of both arms.
        differences: by question, share of right samples in B less A; questions that both were scored on.
        num_only_a, num_only_b: scored questions that the other was not asked.
        is_primary: whether the recipe is about this comparison; the others are corrected for being many.
        p_holm: the exact McNemar p, corrected; None where the samples of a question are several.
        family: comparisons that were corrected together.
        apart: what little is between them, where that is no other method: neither is called better then.
    """

    name: str
    a: Arm
    b: Arm
    differences: dict[str, float]
    num_only_a: int
    num_only_b: int
    is_primary: bool = False
    p_holm: float | None = None
    family: int = 1
    apart: str = ""

    @property
    def num_shared(self) -> int:
        """Scored questions in both."""
        return len(self.differences)

    @cached_property
    def only_a(self) -> int:
        """Questions that A answers better (rightly, where there is one sample of each)."""
        return sum(difference < 0 for difference in self.differences.values())

    @cached_property
    def only_b(self) -> int:
        """Questions that B answers better."""
        return sum(difference > 0 for difference in self.differences.values())

    @cached_property
    def mean(self) -> float:
        """Accuracy of B less A on the shared questions."""
        return sum(self.differences.values()) / self.num_shared

    @cached_property
    def is_single(self) -> bool:
        """Whether every question has one sample in both, as McNemar's test needs."""
        return all(len(rows) == 1 for arm in (self.a, self.b) for rows in arm.answers.values())

    @property
    def is_same_texts(self) -> bool:
        """Whether both said the very same: that tests nothing, so it is none of the many that the others are corrected for."""
        left, right = (arm.unit.manifest.outputs["predictions"].digest for arm in (self.a, self.b))
        return left == right

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of `mean`, over questions (all samples of a question together)."""
        return bootstrap_mean(list(self.differences.values()))

    @cached_property
    def p(self) -> float | None:
        """Exact McNemar test: two students that are right equally often would differ this much or more; None where it does not apply."""
        return mcnemar(self.only_a, self.only_b) if self.is_single and self.differences else None

    @property
    def is_different(self) -> bool:
        """Whether these two students may be said to differ: no 0 in the interval, and p below the level once corrected."""
        if not self.differences:
            return False
        low, high = self.interval
        corrected = self.p if self.p_holm is None else self.p_holm
        return not low <= 0 <= high and (corrected is None or corrected < LEVEL)

    @property
    def sentence(self) -> str:
        """What can be said of these two students."""
        if self.num_shared == 0:
            return (
                f"they share no scored question ({self.num_only_a:,} only in A, {self.num_only_b:,} only in B), so nothing can"
                " be compared"
            )
        low, high = self.interval
        said = [
            f"on {self.num_shared:,} shared questions: {self.only_b} better in B, {self.only_a} better in A"
            if not self.is_single
            else f"on {self.num_shared:,} shared questions: {self.only_b} right only in B, {self.only_a} right only in A",
            f"B less A {self.mean * 100:+.1f} points, bootstrap [{low * 100:+.1f}, {high * 100:+.1f}]",
        ]
        if self.p is not None:
            said.append(f"exact McNemar {_p(self.p)}")
        if self.p_holm is not None and self.family > 1:
            said.append(f"Holm over {self.family}: {_p(self.p_holm)}")
        if self.num_only_a or self.num_only_b:
            said.append(
                f"the question sets differ ({self.num_only_a:,} only in A, {self.num_only_b:,} only in B: left out)"
            )
        else:
            said.append(
                "the same questions"
                if self.a.data == self.b.data
                else "other data, the same questions"
            )
        return "; ".join([*said, self.verdict])

    @property
    def verdict(self) -> str:
        """Who is better, or how much more it would take to tell."""
        if self.apart:
            return self.apart
        if self.is_same_texts:
            return "the same answers, word by word"
        if self.is_different:
            return f"{'B' if self.mean > 0 else 'A'} is the better student here"
        needed = questions_needed(
            self.only_a, self.only_b, self.num_shared, level=LEVEL / self.family
        )
        if needed is None:
            return "no winner: no difference was seen"
        return f"inside the noise, no winner; about {needed:,} questions would tell this difference"

    def to_json(self) -> dict[str, Any]:
        """As JSON, without the single verdicts."""
        left_out = {"answers", "unit"}
        sides = {
            side: {name: getattr(arm, name) for name in Arm.__slots__ if name not in left_out}
            for side, arm in (("a", self.a), ("b", self.b))
        }
        return {
            "name": self.name,
            **sides,
            "num_shared": self.num_shared,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "mean": self.mean if self.differences else None,
            "interval": self.interval if self.differences else None,
            "mcnemar_p": self.p,
            "mcnemar_p_holm": self.p_holm,
            "family": self.family,
            "is_primary": self.is_primary,
            "students": self.sentence,
        }


def arms_of(archive: Archive, only: str | None, reading: Reading) -> dict[str, Arm]:
    """The evaluated arms of a run, by name; one of them where `only` names it.

    Args:
        archive: a complete run.
        only: an arm, or None.
        reading: of the comparison.

    Raises:
        KpodError: there is no such arm.
    """
    units = archive.scored()
    if only is not None and only not in units:
        raise KpodError(
            f"{archive.name} has no evaluated arm '{only}'\nallowed: {', '.join(units)}"
        )
    return {
        name: _arm(archive, name, unit, reading)
        for name, unit in units.items()
        if only in {None, name}
    }


def _arm(archive: Archive, name: str, unit: ArchivedUnit, reading: Reading) -> Arm:
    metric = next(archive.read(unit, "metrics", Metric))
    answers: dict[str, list[bool | None]] = {}
    for row in reading.predictions(archive, unit):
        answers.setdefault(row["question_id"], []).append(row["is_correct"])
    return Arm(
        name=name, unit=unit, data=metric.data, n=metric.n, accuracy=metric.accuracy, low=metric.low, high=metric.high,
        answers={key: tuple(verdicts) for key, verdicts in answers.items()},
    )  # fmt: skip


def compare_arms(
    a: Mapping[str, Arm], b: Mapping[str, Arm], *, is_named: bool, primary: Sequence[str] = ()
) -> list[Score]:
    """Arms of the same name beside each other; the two that were named, where they were.

    Args:
        a: evaluated arms of A by name.
        b: those of B.
        is_named: each holds the one arm that a person named.
        primary: ids of the arms that the recipe is about; the last is its method. Every other comparison is corrected
            (Holm) for being one of many; the two that were named are alone, whatever the recipe is about.
    """
    if is_named:
        (left,), (right,) = a.values(), b.values()
        is_primary = {str(left.unit.element), str(right.unit.element)} <= set(primary)
        return [replace(_score(f"{left.name} / {right.name}", left, right), is_primary=is_primary)]
    method = primary[-1] if primary else None
    scores = [
        replace(_score(name, a[name], b[name]), is_primary=name == method or len(a) == 1)
        for name in a
        if name in b
    ]
    return _corrected(scores)


def _corrected(scores: Sequence[Score]) -> list[Score]:
    others = [
        score
        for score in scores
        if not score.is_primary
        and score.p is not None
        and score.num_shared
        and not score.is_same_texts
    ]
    found = dict(
        zip(
            (score.name for score in others),
            holm([score.p or 0.0 for score in others]),
            strict=True,
        )
    )
    return [
        replace(score, p_holm=found[score.name], family=len(others)) if score.name in found else score
        for score in scores
    ]  # fmt: skip


def _score(name: str, a: Arm, b: Arm) -> Score:
    shares_a, shares_b = a.shares(), b.shares()
    shared = [key for key in shares_a if key in shares_b]
    return Score(
        name=name, a=a, b=b, differences={key: shares_b[key] - shares_a[key] for key in shared},
        num_only_a=len(shares_a) - len(shared), num_only_b=len(shares_b) - len(shared),
    )  # fmt: skip


def _p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}"
