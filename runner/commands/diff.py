"""`kpod diff A B`: what changed between two runs, in the order of the graph, and what became of the scores."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from kpod.runner.archive import find_run
from kpod.runner.commands._options import add_folders
from kpod.runner.comparison import Arm, Comparison, arms_of, compare_arms, compare_runs
from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode


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
    if arguments.json:
        say(
            json.dumps(
                {**comparison.to_json(), "scores": [score.to_json() for score in scores]}, indent=1
            )
        )
        return ExitCode.DONE
    say(f"A  {run_a.name}\nB  {run_b.name}")
    _print(comparison)
    say("\nscores")
    if not scores:
        say("  no arm was evaluated in both")
    for score in scores:
        say(f"  {score.name}  A {_score(score.a)}  B {_score(score.b)}")
        say(f"    {score.sentence}")
    return ExitCode.DONE


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
