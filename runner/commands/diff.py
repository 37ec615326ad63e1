"""`kpod diff A B`: what changed between two runs, in the order of the graph, and what became of the scores.

Two claims, each on its own line: whether these two students differ, and whether one method is better (DESIGN 6).
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kpod.runner.archive import Archive, find_run
from kpod.runner.commands._options import add_folders
from kpod.runner.comparison import Arm, Comparison, Score, arms_of, compare_arms, compare_runs
from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode
from kpod.runner.seeds import Method, pair_by_seed, series_of, siblings, spread


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("a", metavar="A", help="a run, or RUN:ARM")
    parser.add_argument("b", metavar="B", help="a run, or RUN:ARM")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    name_a, _, arm_a = arguments.a.partition(":")
    name_b, _, arm_b = arguments.b.partition(":")
    run_a, run_b = find_run(name_a, arguments.runs), find_run(name_b, arguments.runs)
    comparison = compare_runs(run_a, run_b)
    scores = compare_arms(
        arms_of(run_a, arm_a or None), arms_of(run_b, arm_b or None), is_named=bool(arm_a and arm_b)
    )
    methods = list(_methods(run_a, run_b, scores, arguments.runs))
    if arguments.json:
        rows = [
            {**score.to_json(), "method": _method_json(method)}
            for score, method in zip(scores, methods, strict=True)
        ]
        say(json.dumps({**comparison.to_json(), "scores": rows}, indent=1))
        return ExitCode.DONE
    say(f"A  {run_a.name}\nB  {run_b.name}")
    _print(comparison)
    say("\nscores")
    if not scores:
        say("  no arm was evaluated in both")
    for score, method in zip(scores, methods, strict=True):
        _print_score(score, method)
    return ExitCode.DONE


def _methods(
    run_a: Archive, run_b: Archive, scores: Sequence[Score], runs: Path
) -> Iterator[Method | str]:
    """For each pair of arms, what all seeds of the two recipes say; only their spread where nothing but the seed differs."""
    if not scores:
        return
    seeds_a, seeds_b = siblings(run_a, runs), siblings(run_b, runs)
    series_a, series_b = series_of(seeds_a), series_of(seeds_b)
    is_one_recipe = [a.folder for a in seeds_a.values()] == [b.folder for b in seeds_b.values()]
    for score in scores:
        arm_a, arm_b = series_a[score.a.name], series_b[score.b.name]
        if is_one_recipe and arm_a.name == arm_b.name:
            yield spread(arm_a)
        else:
            names = ("A", "B") if arm_a.name == arm_b.name else (arm_a.name, arm_b.name)
            yield pair_by_seed(arm_a, arm_b, names=names)


def _method_json(method: Method | str) -> dict[str, Any]:
    if isinstance(method, str):
        return {"seeds": {}, "result": None, "sentence": method}
    return method.to_json()


def _print_score(score: Score, method: Method | str) -> None:
    say(f"  {score.name}  A {_score(score.a)}  B {_score(score.b)}")
    say(f"    these two students: {score.sentence}")
    if isinstance(method, str):
        say(f"    the method: {method}")
        return
    say(f"    the method, paired by seed: {method.sentence}")
    if len(method.scores) > 1:
        each = ", ".join(
            f"{seed}: {a:.3f} / {b:.3f}" for seed, (a, b) in sorted(method.scores.items())
        )
        say(f"      A / B by seed: {each}")


def _print(comparison: Comparison) -> None:
    sections = (
        ("recipe values", ("value", "A", "from", "B", "from"), comparison.values),
        ("environment", ("what", "A", "B"), comparison.environment),
        ("stage outputs", ("stage", "", "A", "B"), comparison.outputs),
    )
    for title, head, rows in sections:
        say(f"\n{title}")
        say(table(head, rows) if rows else "  the same")


def _score(arm: Arm) -> str:
    if arm.accuracy is None:
        return f"not scored, n = {arm.n}"
    return f"{arm.accuracy:.3f} [{arm.low:.3f}, {arm.high:.3f}], n = {arm.n}"
