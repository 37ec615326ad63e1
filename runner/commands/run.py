"""`kpod run RECIPE`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kpod.runner.assembly import find_recipe
from kpod.runner.commands._options import (
    add_choice_of_stages,
    add_recipe,
    add_spending,
    run_options,
)
from kpod.runner.commands.plan import print_plan
from kpod.runner.console import RunConsole, json_listener
from kpod.runner.errors import ExitCode
from kpod.runner.session import Session


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_recipe(parser)
    add_choice_of_stages(parser)
    add_spending(parser)
    parser.add_argument("--plan", action="store_true", help="only say what would run")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")


def run(arguments: Namespace) -> int:
    """Do it."""
    session = Session(find_recipe(arguments.recipe), run_options(arguments))
    if arguments.plan:
        return print_plan(session, is_json=arguments.json)
    session.run([json_listener if arguments.json else RunConsole(session.recipe)])
    return ExitCode.DONE
