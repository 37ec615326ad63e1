"""`kpod accept RECIPE STAGE --because TEXT`: a stage's earlier result stands although its code or a library changed."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from kpod.runner.accepting import Acceptance, accept
from kpod.runner.assembly import find_recipe
from kpod.runner.commands._options import add_folders, run_options
from kpod.runner.console import say
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.selection import check_ids
from kpod.runner.session import Session

# Our choice: a change that touches one question in ten is seen with a chance of 88 % (1 - 0.9^20).
_SAMPLE = 20


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("stage", metavar="STAGE", help="the stage's id")
    parser.add_argument(
        "--because", required=True, metavar="TEXT", help="why; kept with the result"
    )
    parser.add_argument(
        "--sample", type=int, default=_SAMPLE, metavar="N",
        help="questions that are made again, of a stage that works question by question (default %(default)s); others are made again whole",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="K=V", help="change a value first"
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    if not arguments.because.strip() or arguments.sample < 1:
        raise KpodError("--because wants a reason, and --sample at least 1")
    session = Session(find_recipe(arguments.recipe), run_options(arguments))
    check_ids(session.recipe, [arguments.stage])
    found = accept(
        session, arguments.stage, because=arguments.because.strip(), sample=arguments.sample
    )
    if arguments.json:
        say(json.dumps([asdict(one) for one in found]))
    else:
        for one in found:
            _tell(one)
    return ExitCode.DONE if all(one.is_accepted for one in found) else ExitCode.STAGE_FAILED


def _tell(one: Acceptance) -> None:
    if one.verdict == "stored":
        say(f"{one.unit}: its result is stored; there is nothing to accept")
        return
    say(f"{one.unit}: {one.changed}")
    if one.is_accepted:
        say(f"  made again: {one.part}: {one.verdict}; the earlier result stands")
    else:
        say(
            f"  not accepted: {one.first}\n  run the recipe: this stage and what follows from it are made again"
        )
