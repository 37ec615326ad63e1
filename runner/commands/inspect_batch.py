"""`kpod inspect-batch RECIPE STAGE`: the tokens, labels and weights that a student trains on."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kpod.runner.assembly import find_recipe
from kpod.runner.commands._options import add_recipe, run_options
from kpod.runner.console import RunConsole, say, table
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.inspection import Inspectable, InspectedExample
from kpod.runner.session import Session


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_recipe(parser)
    parser.add_argument("stage", metavar="STAGE", help="the id of a student")
    parser.add_argument(
        "--examples", type=int, default=2, metavar="N", help="how many sequences (default: 2)"
    )
    parser.add_argument(
        "--epoch", type=int, default=1, metavar="E", help="of which epoch, from 1 (default: 1)"
    )


def run(arguments: Namespace) -> int:
    """Do it: what the stage reads is made first where it is not stored; the stage itself is not executed."""
    session = Session(find_recipe(arguments.recipe), run_options(arguments))
    stage = session.recipe.stages.get(arguments.stage)
    if stage is None:
        raise KpodError(
            f"no stage has the id '{arguments.stage}'\nallowed: {', '.join(session.recipe.stages)}"
        )
    if not issubclass(stage.stage, Inspectable):
        raise KpodError(f"{arguments.stage} ({stage.uses}) trains nothing that could be inspected")
    for example in session.inspect(
        arguments.stage,
        limit=arguments.examples,
        epoch=arguments.epoch,
        listeners=[RunConsole(session.recipe)],
    ):
        _print(example)
    return ExitCode.DONE


def _print(example: InspectedExample) -> None:
    num_targets = sum(token.is_target for token in example.tokens)
    same = (
        "the prompt is the one that evaluation sends"
        if example.has_evaluation_prompt
        else "the prompt is NOT the one that evaluation sends"
    )
    say(f"\n{example.example_id}: {len(example.tokens)} tokens, {num_targets} targets; {same}")
    rows = [
        (
            str(position),
            str(token.id),
            repr(token.text),
            "target" if token.is_target else "context",
            f"{token.weight:.3g}" if token.is_target else "",
        )
        for position, token in enumerate(example.tokens)
    ]
    say(table(("position", "id", "token", "role", "weight"), rows))
