"""`kpod validate RECIPE…`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kpod.runner.assembly import find_recipe
from kpod.runner.console import complain, say
from kpod.runner.errors import ExitCode, RecipeError
from kpod.runner.recipe import load_recipe


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("recipes", metavar="RECIPE", nargs="+")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="K=V",
        help="change a value first",
    )


def run(arguments: Namespace) -> int:
    """Do it: every recipe, all errors of each."""
    code = ExitCode.DONE
    for name in arguments.recipes:
        try:
            recipe = load_recipe(find_recipe(name), settings=arguments.settings)
        except RecipeError as error:
            complain(str(error))
            code = ExitCode.INVALID
        else:
            say(f"{name}: {len(recipe.stages)} stages, valid")
    return code
