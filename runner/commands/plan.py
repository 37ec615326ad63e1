"""`kpod plan RECIPE`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from kpod.runner.assembly import find_recipe
from kpod.runner.commands._options import add_choice_of_stages, add_recipe, run_options
from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode
from kpod.runner.session import Session


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_recipe(parser)
    add_choice_of_stages(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(arguments: Namespace) -> int:
    """Do it: exit 10 where there is work, 0 where there is none."""
    return print_plan(
        Session(find_recipe(arguments.recipe), run_options(arguments)), is_json=arguments.json
    )


def print_plan(session: Session, *, is_json: bool) -> int:
    """Print what would run and why; the exit code says whether there is work."""
    planned = session.planner.plan(forced=session.forced)
    num_hits = sum(item.status == "hit" for item in planned)
    if is_json:
        rows = [
            {
                "unit": p.unit.name,
                "uses": p.unit.stage.uses,
                "status": p.status,
                "reason": p.reason,
                "key": p.key,
            }
            for p in planned
        ]
        say(json.dumps(rows, indent=1))
    else:
        say(
            table(
                ("stage", "uses", "", "why"),
                [(p.unit.name, p.unit.stage.uses, p.status, p.reason) for p in planned],
            )
        )
        say(f"{num_hits} of {len(planned)} from the store, {len(planned) - num_hits} to run")
    return ExitCode.DONE if num_hits == len(planned) else ExitCode.HAS_WORK
