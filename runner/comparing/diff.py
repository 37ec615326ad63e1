"""The whole comparison of two runs, or of two arms: what `kpod diff` prints and a notebook asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kpod.runner.archive import Archive, find_run
from kpod.runner.comparing.flips import Flip, FlipFinder
from kpod.runner.comparing.reading import Reading
from kpod.runner.comparing.scores import Score, arms_of, compare_arms
from kpod.runner.comparing.stages import StageChange, compare_arms_made, compare_stages
from kpod.runner.comparing.values import Row, changed_environment, changed_values
from kpod.runner.errors import KpodError
from kpod.runner.seeds import (
    Method,
    as_family,
    is_made_alike,
    pair_by_seed,
    series_of,
    siblings,
    spread,
)

_SEED_APART = "nothing but the seed is between them"
_SAME = "one recipe under one seed, made from the same things"
_ONE_RUN = "the two are one recipe under one seed, made from the same things; no winner is named"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """Two runs, or two arms, side by side.

    Args:
        a, b: the runs; the same one where two of its arms are compared.
        name_a, name_b: as people name them: the run, with the arm where one was named.
        values: (name, A, origin, B, origin) of the recipe's values that differ.
        environment: (what, A, B) of machine and packages.
        stages: every stage in the order of the graph; of two arms of one run, the two stages that made them.
        scores: arms beside each other: these two students.
        methods: for each of them what all seeds say of the two methods; a sentence where nothing but the seed differs.
        flips: for each of them the questions that one student alone got right.
    """

    a: Archive
    b: Archive
    name_a: str
    name_b: str
    values: tuple[Row, ...]
    environment: tuple[Row, ...]
    stages: tuple[StageChange, ...]
    scores: tuple[Score, ...]
    methods: tuple[Method | str, ...]
    flips: tuple[tuple[Flip, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "a": self.a.name,
            "b": self.b.name,
            "values": [list(row) for row in self.values],
            "environment": [list(row) for row in self.environment],
            "stages": [stage.to_json() for stage in self.stages],
            "scores": [
                {**score.to_json(), "method": _method_json(method), "flips": [flip.to_json() for flip in flips]}
                for score, method, flips in zip(self.scores, self.methods, self.flips, strict=True)
            ],
        }  # fmt: skip


def diff(
    a: str | Path | Archive,
    b: str | Path | Archive,
    *,
    runs: str | Path = "runs",
    most_flips: int = 200,
) -> Diff:
    """Compare two runs, or two arms.

    Args:
        a: a run (folder, name, part of it, `last`, or an Archive), or `RUN:ARM`.
        b: the other.
        runs: folder of the archives; the other seeds of both recipes are looked for there.
        most_flips: questions fixed, and broken, that are told of each pair of arms.

    Raises:
        KpodError: a run or an arm is not there, or not complete.
    """
    runs = Path(runs)
    (run_a, arm_a), (run_b, arm_b) = _named(a, runs), _named(b, runs)
    reading = Reading()
    arms_a, arms_b = arms_of(run_a, arm_a, reading), arms_of(run_b, arm_b, reading)
    if bool(arm_a) != bool(arm_b):
        raise KpodError(
            f"got an arm of one run and a whole run: {a} and {b}\nallowed: two runs, or RUN:ARM twice"
        )
    primary = run_b.facts["primary"] or run_a.facts["primary"]
    scores = compare_arms(arms_a, arms_b, is_named=arm_a is not None, primary=primary)
    if run_a.folder != run_b.folder:
        stages = compare_stages(run_a, run_b, reading)
    else:
        made = [(str(s.a.unit.element), str(s.b.unit.element)) for s in scores if arm_a is not None]
        stages = [
            stage for names in made for stage in compare_arms_made(run_a, run_b, names, reading)
        ]
    methods = _corrected(scores, list(_methods(run_a, run_b, scores, runs)))
    apart = _SAME if run_a.facts["seed"] == run_b.facts["seed"] else _SEED_APART
    scores = [
        replace(score, apart=apart if isinstance(method, str) else "")
        for score, method in zip(scores, methods, strict=True)
    ]
    finder = FlipFinder(run_a, run_b, reading)
    return Diff(
        a=run_a, b=run_b,
        name_a=f"{run_a.name}:{arm_a}" if arm_a else run_a.name, name_b=f"{run_b.name}:{arm_b}" if arm_b else run_b.name,
        values=tuple(changed_values(run_a, run_b)), environment=tuple(changed_environment(run_a, run_b)),
        stages=tuple(stages),
        scores=tuple(scores), methods=tuple(methods),
        flips=tuple(tuple(finder.flips(score, most=most_flips)) for score in scores),
    )  # fmt: skip


def _named(name: str | Path | Archive, runs: Path) -> tuple[Archive, str | None]:
    if isinstance(name, Archive):
        return name, None
    run, _, arm = str(name).partition(":")
    return find_run(run, runs), arm or None


def _methods(
    run_a: Archive, run_b: Archive, scores: Sequence[Score], runs: Path
) -> Iterator[Method | str]:
    """For each pair of arms, what all seeds of the two recipes say; only their spread where nothing but the seed differs."""
    if not scores:
        return
    try:
        seeds_a, seeds_b = siblings(run_a, runs), siblings(run_b, runs)
        series_a, series_b = series_of(seeds_a.by_seed), series_of(seeds_b.by_seed)
    except KpodError as error:  # a run of another seed: what these two hold was read before
        yield from (_without_seeds(run_a, run_b, score, error) for score in scores)
        return
    remark = "; ".join(dict.fromkeys(each.remark for each in (seeds_a, seeds_b) if each.remark))
    is_one_recipe = is_made_alike(run_a, run_b)
    is_one_seed = run_a.facts["seed"] == run_b.facts["seed"]
    for score in scores:
        arm_a, arm_b = series_a[score.a.name], series_b[score.b.name]
        if is_one_recipe and arm_a.name == arm_b.name:
            told = _ONE_RUN if is_one_seed else spread(arm_a)
            yield f"{told}; {remark}" if remark else told
        else:
            names = ("A", "B") if arm_a.name == arm_b.name else (arm_a.name, arm_b.name)
            yield replace(pair_by_seed(arm_a, arm_b, names=names), remark=remark)


def _corrected(scores: Sequence[Score], methods: Sequence[Method | str]) -> list[Method | str]:
    """The methods, every one but the primary comparison corrected (Holm) for being one of many."""
    others = iter(
        as_family(
            [
                method
                for score, method in zip(scores, methods, strict=True)
                if isinstance(method, Method) and not score.is_primary
            ]
        )
    )
    return [
        next(others) if isinstance(method, Method) and not score.is_primary else method
        for score, method in zip(scores, methods, strict=True)
    ]


def _without_seeds(run_a: Archive, run_b: Archive, score: Score, error: KpodError) -> Method | str:
    """What is said of a pair of arms where a run of another seed cannot be read."""
    told = str(error).partition("\n")[0]
    if score.a.name == score.b.name and is_made_alike(run_a, run_b):
        if run_a.facts["seed"] == run_b.facts["seed"]:
            return _ONE_RUN
        return f"the two differ in nothing but the seed; other seeds cannot be told of: {told}; no winner is named"
    reason = f"no claim, as a run of another seed cannot be read: {told}"
    return Method(a=score.a.name, b=score.b.name, scores={}, result=None, reason=reason)


def _method_json(method: Method | str) -> dict[str, Any]:
    if isinstance(method, str):
        return {"seeds": {}, "result": None, "sentence": method}
    return method.to_json()
