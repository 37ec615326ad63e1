"""What runs of one recipe say that differ only by their seed: scores by seed and arm, paired comparisons, and what each arm took."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from kpod.stages.report._formats import Share
from kpod.stages.report._matrix import SweptMatrix, matrix_verdict, read_matrix, seeds_command
from kpod.stages.report._training import Ratios, Student, baseline_of, ratios_of, read_students
from kpod.stages.report._verdict import Verdict, verdict_of
from kpod.stages.report._versus import Versus, compare

if TYPE_CHECKING:
    from kpod.runner import Series
    from kpod.runner.archive import Archive

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRun:
    """One run of the sweep.

    Args:
        link: its page, as seen from the sweep's folder.
        seconds: the run took, with what it found in the store.
        commit: of the git repository that holds the recipe, or None; `is_dirty`: files there differed from it.
        label: its settings and its seed, where settings are swept; else "".
    """

    seed: int
    run: str
    link: str
    seconds: float
    finished_at: str
    commit: str | None
    is_dirty: bool
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptArm:
    """One arm on one set of questions.

    Args:
        name: id of the stage that made the model.
        is_primary: whether it belongs to the comparison that the recipe names.
        scores: by seed, in the order of `Sweep.runs`; None where a seed has none.
        mean: of the accuracies, over seeds; None without any.
        sd: their standard deviation (n - 1), over seeds; None where there is one seed.
    """

    name: str
    is_primary: bool
    scores: tuple[Share | None, ...]
    mean: float | None
    sd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptSet:
    """The arms on one set of questions; the primary ones first.

    Args:
        name: id of the evaluating stage.
        sizes: questions with a gold answer; several numbers where seeds or arms differ.
    """

    name: str
    sizes: tuple[int, ...]
    arms: tuple[SweptArm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptCost:
    """What an arm took: means over the seeds that noted it.

    Args:
        num_seeds: runs that trained it.
        training_s: in optimizer steps; `seconds`: of the whole stage.
        ratios: against the baseline; None for that itself.
    """

    name: str
    uses: str
    num_seeds: int
    steps: float | None
    target_tokens: float | None
    processed_tokens: float | None
    training_s: float | None
    seconds: float
    ratios: Ratios | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The facts.

    Args:
        command: that continues the sweep.
        primary: arms of the comparison that the recipe names, its baseline first.
        comparisons: the recipe's own first, then all other arms against the baseline.
        costs: of everything that was trained.
        baseline: the arm that costs are multiples of; "" without training.
        format: version of report.json.
        matrix: where settings are swept: their table; sets, comparisons and costs then stand on the pages of its rows.
    """

    recipe: str
    recipe_path: str
    command: str
    description: str
    primary: tuple[str, ...]
    runs: tuple[SeedRun, ...]
    verdict: Verdict
    sets: tuple[SweptSet, ...]
    comparisons: tuple[Versus, ...]
    costs: tuple[SweptCost, ...]
    baseline: str
    format: int = FORMAT
    matrix: SweptMatrix | None = None


def read_sweep(archives: Sequence[Archive], *, folder: Path) -> Sweep:
    """The facts of runs that differ by their seed, or of a sweep over settings.

    Args:
        archives: complete runs, at least one, one a seed; all runs where settings are swept.
        folder: where the page will lie; its sweep.json says what was swept.

    Raises:
        KpodError: a run is not complete, or a file is gone from its archive.
    """
    matrix = read_matrix(folder)
    if matrix is not None:
        return _of_matrix(matrix, archives, folder)
    by_seed = {archive.facts["seed"]: archive for archive in archives}
    first = archives[0]
    primary: list[str] = first.facts["primary"]
    found, comparisons = compare(by_seed, primary)
    costs = _costs(archives, primary)
    return Sweep(
        recipe=first.facts["name"],
        recipe_path=first.facts["recipe"],
        command=seeds_command(folder, recipe=first.facts["recipe"], seeds=list(by_seed)),
        description=str(first.resolved.get("description") or ""),
        primary=tuple(primary),
        runs=tuple(_run(archive, folder) for archive in by_seed.values()),
        verdict=verdict_of(comparisons, num_seeds=len(by_seed), num_arms=len(found)),
        sets=_sets(found, list(by_seed), primary),
        comparisons=comparisons,
        costs=costs,
        baseline=next((cost.name for cost in costs if cost.ratios is None), ""),
    )


def _of_matrix(matrix: SweptMatrix, archives: Sequence[Archive], folder: Path) -> Sweep:
    """The facts of a sweep over settings: its table, and where its runs are."""
    first = archives[0]
    runs = (replace(_run(each, folder), label=matrix.labels[each.name]) for each in archives)
    return Sweep(
        recipe=first.facts["name"],
        recipe_path=first.facts["recipe"],
        command=matrix.command,
        description=str(first.resolved.get("description") or ""),
        primary=tuple(first.facts["primary"]),
        runs=tuple(runs),
        verdict=matrix_verdict(matrix),
        sets=(),
        comparisons=(),
        costs=(),
        baseline="",
        matrix=matrix,
    )


def _run(archive: Archive, folder: Path) -> SeedRun:
    facts = archive.facts
    git = facts["git"] or {}
    return SeedRun(
        seed=facts["seed"],
        run=archive.name,
        link=Path(os.path.relpath(archive.folder / "report.html", folder)).as_posix(),
        seconds=facts["seconds"],
        finished_at=facts["finished_at"],
        commit=git.get("commit"),
        is_dirty=bool(git.get("is_dirty")),
    )


def _sets(
    found: Mapping[str, Series], seeds: Sequence[int], primary: Sequence[str]
) -> tuple[SweptSet, ...]:
    evaluations = dict.fromkeys(series.evaluation for series in found.values())
    return tuple(
        _set(name, [each for each in found.values() if each.evaluation == name], seeds, primary)
        for name in evaluations
    )


def _set(
    name: str, found: Sequence[Series], seeds: Sequence[int], primary: Sequence[str]
) -> SweptSet:
    ordered = sorted(
        found,
        key=lambda each: primary.index(each.arm) if each.arm in primary else len(primary),
    )
    return SweptSet(
        name=name,
        sizes=tuple(sorted({size for each in found for size in each.sizes.values()})),
        arms=tuple(_arm(each, seeds, primary) for each in ordered),
    )


def _arm(series: Series, seeds: Sequence[int], primary: Sequence[str]) -> SweptArm:
    values = list(series.accuracies.values())
    return SweptArm(
        name=series.arm,
        is_primary=series.arm in primary,
        scores=tuple(
            Share.of(round(series.accuracies[seed] * series.sizes[seed]), series.sizes[seed])
            if seed in series.accuracies
            else None
            for seed in seeds
        ),
        mean=mean(values) if values else None,
        sd=stdev(values) if len(values) > 1 else None,
    )


def _costs(archives: Sequence[Archive], primary: list[str]) -> tuple[SweptCost, ...]:
    trained: dict[str, list[Student]] = {}
    for archive in archives:
        for student in read_students(archive):
            trained.setdefault(student.name, []).append(student)
    means = [_mean_cost(name, students) for name, students in trained.items()]
    base = baseline_of(means, primary)
    return tuple(
        each if each is base or base is None else replace(each, ratios=ratios_of(each, base))
        for each in means
    )


def _mean_cost(name: str, students: Sequence[Student]) -> SweptCost:
    def over(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return mean(known) if known else None

    return SweptCost(
        name=name,
        uses=students[0].uses,
        num_seeds=len(students),
        steps=over([each.steps for each in students]),
        target_tokens=over([each.target_tokens for each in students]),
        processed_tokens=over([each.processed_tokens for each in students]),
        training_s=over([each.training_s for each in students]),
        seconds=mean(each.seconds for each in students),
        ratios=None,
    )
