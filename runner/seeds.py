"""Runs of one recipe under several seeds, and what they say about methods: arms are paired seed by seed.

This is one of two claims that are never mixed: what is said here is about the method; whether two students of one seed
differ on the test set is said by `comparison.py`. Source: DESIGN 6.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from kpod.runner.archive import Archive, list_runs
from kpod.runner.record import Metric
from kpod.runner.significance import SEEDS_NEEDED, Paired, corrected, paired


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One arm on one set of questions, over seeds.

    Args:
        name: as people name it: the arm, with its evaluation where a recipe has several.
        evaluation, arm: ids of the stages that scored it, and that made it.
        accuracies, data, sizes: by seed: share of right answers, content digest of the questions, how many there are.
    """

    name: str
    evaluation: str
    arm: str
    accuracies: dict[int, float] = field(default_factory=dict)
    data: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON, with mean and standard deviation over seeds."""
        values = list(self.accuracies.values())
        return {
            "name": self.name,
            "evaluation": self.evaluation,
            "arm": self.arm,
            "accuracies": {str(seed): value for seed, value in self.accuracies.items()},
            "num_questions": sorted(set(self.sizes.values())),
            "mean": statistics.mean(values) if values else None,
            "sd": statistics.stdev(values) if len(values) > 1 else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Two arms, paired by seed.

    Args:
        a, b: their names.
        scores: accuracy of both, by seed.
        result: of the differences B minus A; None where nothing can be paired.
        reason: why not, or "".
        remark: which seeds were not counted, or "".
    """

    a: str
    b: str
    scores: dict[int, tuple[float, float]]
    result: Paired | None
    reason: str = ""
    remark: str = ""

    @property
    def sentence(self) -> str:
        """What can be said of the two methods."""
        said = self.reason if self.result is None else self.result.sentence(self.a, self.b)
        return f"{said}; {self.remark}" if self.remark else said

    @property
    def claim(self) -> str:
        """The same without its figures."""
        return self.reason if self.result is None else self.result.claim(self.a, self.b)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "seeds": {str(seed): list(pair) for seed, pair in self.scores.items()},
            "result": None if self.result is None else self.result.to_json(),
            "sentence": self.sentence,
        }


class Comparisons(NamedTuple):
    """The comparisons of a sweep: those that the recipe is about, and all others, each group a family of its own."""

    primary: list[Method]
    others: list[Method]


class Siblings(NamedTuple):
    """Runs that differ in nothing but the seed.

    Args:
        by_seed: the newest of each seed.
        left_out: seeds that the same recipe ran under, but on other data, or with other code or libraries.
    """

    by_seed: dict[int, Archive]
    left_out: tuple[int, ...]

    @property
    def remark(self) -> str:
        """Which seeds do not count, in words; "" where all do."""
        if not self.left_out:
            return ""
        seeds = ", ".join(map(str, self.left_out))
        return (
            f"seed {seeds} was made from other data, code or libraries and is left out"
            if len(self.left_out) == 1
            else f"seeds {seeds} were made from other data, code or libraries and are left out"
        )


def siblings(archive: Archive, runs: Path) -> Siblings:
    """The complete runs of the same resolved recipe but for its seed (and placement, which changes no result), by seed.

    A recipe names files, and its text stays the same when they change: what the stages were made from must be the same
    too. The newest run of each seed counts. The archive itself is among them where none is newer, also from outside
    `runs`.
    """
    alike, origin = _but_for_seed(archive), made_from(archive)
    found, others = {archive.facts["seed"]: archive}, set[int]()
    for other in list_runs(runs):
        if other.is_complete and _but_for_seed(other) == alike:
            if made_from(other) == origin:
                found[other.facts["seed"]] = other
            else:
                others.add(other.facts["seed"])
    return Siblings(dict(sorted(found.items())), tuple(sorted(others - found.keys())))


def is_made_alike(a: Archive, b: Archive) -> bool:
    """Whether nothing but the seed can be between two runs: one recipe, and the same data, code and libraries."""
    return _but_for_seed(a) == _but_for_seed(b) and made_from(a) == made_from(b)


def made_from(archive: Archive) -> dict[str, dict[str, Any]]:
    """By unit what its result depends on but for the seed and what other units gave it: settings, code, files, libraries."""
    return {
        name: {part: value for part, value in unit.manifest.preimage.items() if part not in {"seed", "inputs"}}
        for name, unit in archive.units.items()
    }  # fmt: skip


def _but_for_seed(archive: Archive) -> str:
    """The text of the resolved recipe without seed and placement; it is written the same way every time."""
    kept, is_kept = [], True
    lines = (archive.folder / "resolved.yaml").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if not line.startswith((" ", "-")):  # a key of the recipe itself
            is_kept = not line.startswith(("seed:", "placement:"))
        if is_kept:
            kept.append(line)
    return "\n".join(kept)


def series_of(archives: Mapping[int, Archive]) -> dict[str, Series]:
    """Every evaluated arm over these seeds, by name, in the order of the recipe."""
    found: dict[str, Series] = {}
    for seed, archive in archives.items():
        for name, unit in archive.scored().items():
            arm = str(unit.element)
            series = found.setdefault(name, Series(name=name, evaluation=unit.stage, arm=arm))
            metric = next(archive.read(unit, "metrics", Metric))
            if metric.accuracy is not None:
                series.accuracies[seed] = metric.accuracy
                series.data[seed] = metric.data
                series.sizes[seed] = metric.n
    return found


def pair_by_seed(a: Series, b: Series, *, names: tuple[str, str] | None = None) -> Method:
    """Two arms over the seeds that both have.

    Args:
        a: the baseline.
        b: the other arm; differences are B minus A.
        names: what to call them; their own where None.
    """
    name_a, name_b = names or (a.name, b.name)
    shared = [seed for seed in a.accuracies if seed in b.accuracies]
    scores = {seed: (a.accuracies[seed], b.accuracies[seed]) for seed in shared}
    reason = ""
    if not shared:
        reason = f"{name_a} and {name_b} share no seed: no claim, {SEEDS_NEEDED} seeds needed"
    elif any(a.data[seed] != b.data[seed] for seed in shared):
        reason = f"no claim: {name_a} and {name_b} were asked different questions"
    result = None if reason else paired([right - left for left, right in scores.values()])
    return Method(a=name_a, b=name_b, scores=scores, result=result, reason=reason)


def spread(series: Series) -> str:
    """How one arm varies with the seed alone; there is no winner in that."""
    values = list(series.accuracies.values())
    if len(values) < 2:
        return (
            "the two differ in nothing but the seed, and only one seed is known; no winner is named"
        )
    return (
        f"the two differ in nothing but the seed: over {len(values)} seeds accuracy {statistics.mean(values):.3f} "
        f"(sd {statistics.stdev(values):.3f}), from {min(values):.3f} to {max(values):.3f}; no winner is named"
    )


def compare_all(found: Mapping[str, Series], primary: Sequence[str]) -> Comparisons:
    """The arms that the recipe names against its baseline, then all others against it; Holm's correction in each group.

    Args:
        found: from `series_of`.
        primary: ids of arms, the baseline first; where there are none, the first arm is the baseline.
    """
    named: list[Method] = []
    others: list[Method] = []
    for evaluation in dict.fromkeys(series.evaluation for series in found.values()):
        arms = {series.arm: series for series in found.values() if series.evaluation == evaluation}
        known = [arm for arm in primary if arm in arms]
        baseline = known[0] if known else next(iter(arms))
        for arm in [*known, *(arm for arm in arms if arm not in known)]:
            if arm != baseline:
                group = named if arm in known else others
                group.append(pair_by_seed(arms[baseline], arms[arm]))
    return Comparisons(list(as_family(named)), list(as_family(others)))


def as_family(methods: Sequence[Method]) -> Iterator[Method]:
    """The methods with their p values corrected for each other."""
    results = iter(corrected([method.result for method in methods if method.result is not None]))
    for method in methods:
        yield method if method.result is None else replace(method, result=next(results))
