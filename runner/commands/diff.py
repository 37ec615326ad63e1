"""`kpod diff A B [C …]`: what changed between runs, in the order of the graph, and what became of the scores.

Two claims, each on its own line: whether these two students differ, and whether one method is better (DESIGN 6).
"""

from __future__ import annotations

import gc
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kpod.runner.archive import find_run
from kpod.runner.commands._options import add_folders
from kpod.runner.comparing.diff import Diff, diff
from kpod.runner.comparing.flips import Flip
from kpod.runner.comparing.many import Many, compare_many
from kpod.runner.comparing.scores import Arm
from kpod.runner.comparing.stages import StageChange
from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.seeds import Method
from kpod.runner.significance import LEVEL, seeds_needed

# What a terminal shows of each kind; --json and --html have more.
_MOST_SHOWN = 3
_MOST_KEPT = 200


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("a", metavar="A", help="a run, or RUN:ARM")
    parser.add_argument("b", metavar="B", help="a run, or RUN:ARM")
    others = parser.add_argument("others", nargs="*", metavar="C", help="more runs: a table of all")
    others.required = False  # else a missing B is said to be a missing C too
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write one page that works offline"
    )
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    with _without_collector():
        return _many(arguments) if arguments.others else _two(arguments)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Rows by the ten thousand that all live to the end: to look for cycles among them took a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _two(arguments: Namespace) -> int:
    is_short = not arguments.json and arguments.html is None
    most = _MOST_SHOWN if is_short else _MOST_KEPT
    found = diff(arguments.a, arguments.b, runs=arguments.runs, most_flips=most)
    if arguments.html is not None:
        from kpod.runner.comparing.page import write_page

        write_page(found, arguments.html)
        say(f"{arguments.html}")
    if arguments.json:
        say(json.dumps(found.to_json(), indent=1))
    elif arguments.html is None:
        for line in _lines(found):
            say(line)
    return ExitCode.DONE


def _many(arguments: Namespace) -> int:
    names = [arguments.a, arguments.b, *arguments.others]
    if arguments.html is not None or any(":" in name for name in names):
        raise KpodError(
            "more than two runs are shown as a table\nallowed: whole runs, with --json or without"
        )
    many = compare_many([find_run(name, arguments.runs) for name in names])
    say(json.dumps(many.to_json(), indent=1) if arguments.json else _table_of(many))
    return ExitCode.DONE


def _table_of(many: Many) -> str:
    head = ("runs", "seeds", *many.differing, *many.arms)
    rows = [
        (
            group.runs[0] if len(group.runs) == 1 else f"{group.runs[0]} and {len(group.runs) - 1} more",
            ", ".join(map(str, group.seeds)), *group.values.values(), *(group.told(arm) for arm in many.arms),
        )
        for group in many.groups
    ]  # fmt: skip
    told = table(head, rows)
    if len(many.groups) == 1:
        return f"{told}\nthe runs differ in nothing but the seed; no winner is named"
    return f"{told}\n`kpod diff` of two of them says whether a difference is more than noise"


def _lines(found: Diff) -> Iterator[str]:
    yield f"A  {found.name_a}\nB  {found.name_b}"
    for title, head, rows in (
        ("recipe values", ("value", "A", "from", "B", "from"), found.values),
        ("environment", ("what", "A", "B"), found.environment),
    ):
        yield f"\n{title}"
        yield table(head, list(rows)) if rows else "  the same"
    if found.stages:
        is_one_run = found.a.folder == found.b.folder
        yield "\nhow the two were made" if is_one_run else "\nstages, in the order of the graph"
        for stage in found.stages:
            yield from _stage_lines(stage)
    yield "\nscores"
    if not found.scores:
        yield "  no arm was evaluated in both"
    for score, method, flips in zip(found.scores, found.methods, found.flips, strict=True):
        yield f"  {score.name}  A {_accuracy(score.a)}  B {_accuracy(score.b)}"
        yield f"    these two students: {score.sentence}"
        yield from _method_lines(method)
        yield from _flip_lines(flips)
        for kind, count in (("fixed", score.only_b), ("broken", score.only_a)):
            if count > _MOST_SHOWN:
                yield f"    {count - _MOST_SHOWN} more {kind}: --json or --html FILE"


def _stage_lines(stage: StageChange) -> Iterator[str]:
    took = " -> ".join("none" if one is None else f"{one:.1f} s" for one in stage.seconds)
    paid = (
        ""
        if stage.usd == (None, None)
        else ", "
        + " -> ".join("no price" if one is None else f"{one:.4f} USD" for one in stage.usd)
    )
    if stage.status == "same":
        yield f"  {stage.unit}  same"
        return
    yield f"  {stage.unit}  {stage.status}  ({stage.uses}, {took}{paid})"
    for cause in stage.causes:
        yield f"    because {cause}"
    if stage.status == "differs" and not stage.causes:
        yield "    although it was made from the same things: it is not deterministic here, or was made on another machine"
    for change in stage.outputs:
        yield f"    {change.sentence}"
        for example in change.examples[:_MOST_SHOWN]:
            shown = (
                example.words or f"{example.before or 'nothing'} -> {example.after or 'nothing'}"
            )
            yield f"      {example.id}: {_short(shown)}"
        for name, before, after in change.moved.largest[:_MOST_SHOWN] if change.moved else ():
            yield f"      {name}: {before:.3f} -> {after:.3f}"


def _method_lines(method: Method | str) -> Iterator[str]:
    if isinstance(method, str):
        yield f"    the method: {method}"
        return
    yield f"    the method, paired by seed: {method.sentence}"
    if len(method.scores) > 1:
        each = ", ".join(
            f"{seed}: {a:.3f} / {b:.3f}" for seed, (a, b) in sorted(method.scores.items())
        )
        yield f"      A / B by seed: {each}"
    found = method.result
    if found is not None and found.sd is not None and not found.is_claim:
        needed = seeds_needed(found.mean, found.sd, level=LEVEL / found.family)
        if needed is not None:
            yield f"      about {needed:,} seeds would tell this difference"


def _flip_lines(flips: tuple[Flip, ...]) -> Iterator[str]:
    for kind in ("fixed", "broken"):
        some = [flip for flip in flips if flip.kind == kind]
        for flip in some[:_MOST_SHOWN]:
            yield f"    {kind} {flip.question_id} (gold {flip.gold}): {_short(flip.question)}"
            yield f"      A: {_short(flip.texts[0])}"
            yield f"      B: {_short(flip.texts[1])}"
            for lesson in flip.lessons:
                facts = [f"like {lesson.question_id} ({lesson.likeness:.2f})"]
                if lesson.cluster != (None, None):
                    facts.append(f"cluster {lesson.cluster[0]} / {lesson.cluster[1]}")
                if lesson.nats != (None, None):
                    nats = " / ".join(
                        "none" if one is None else f"{one:.1f}" for one in lesson.nats
                    )
                    facts.append(f"difficulty {nats} nats")
                facts += [f"only in A: {_short(text, 60)}" for text in lesson.only_a[:1]]
                facts += [f"only in B: {_short(text, 60)}" for text in lesson.only_b[:1]]
                yield f"      {'; '.join(facts)}"


def _accuracy(arm: Arm) -> str:
    if arm.accuracy is None:
        return f"not scored, n = {arm.n}"
    return f"{arm.accuracy:.3f} [{arm.low:.3f}, {arm.high:.3f}], n = {arm.n}"


def _short(text: str, width: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
