"""`kpod stages [NAME]`."""

from __future__ import annotations

import inspect
import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode
from kpod.runner.registry import BrokenPlugin, find_stage, stage_names
from kpod.runner.schema import describe
from kpod.runner.stage import Input, Output, Stage


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a stage: its inputs, outputs and settings"
    )


def run(arguments: Namespace) -> int:
    """Do it."""
    if arguments.name is None:
        say(
            table(
                ("stage", "what it does"),
                [(name, _first_line(name)) for name in stage_names()],
            )
        )
        return ExitCode.DONE
    stage = find_stage(arguments.name)
    module = inspect.cleandoc(sys.modules[stage.__module__].__doc__ or "")
    say(f"{stage.uses}\n\n{module}\n")
    if issubclass(stage, Stage):
        say(table(("", "name", "record", "role", ""), [*_inputs(stage), *_outputs(stage)]) + "\n")
    settings = [(s.name, s.type, s.default, s.allowed, s.doc) for s in describe(stage.config_class)]
    say(table(("setting", "type", "default", "allowed", "meaning"), settings))
    return ExitCode.DONE


def _first_line(uses: str) -> str:
    """What a stage does; or why it cannot be used, which must not hide the others."""
    try:
        return inspect.cleandoc(find_stage(uses).__doc__ or "").partition("\n")[0]
    except BrokenPlugin as error:
        return str(error)


def _inputs(stage: type[Stage[Any]]) -> list[tuple[str, ...]]:
    return [
        ("input", name, item.record.__name__, item.role or "", _manner(item))
        for name, item in stage.inputs().items()
    ]


def _outputs(stage: type[Stage[Any]]) -> list[tuple[str, ...]]:
    return [
        ("output", name, item.record.__name__, item.role or "", _refines(item))
        for name, item in stage.outputs().items()
    ]


def _manner(item: Input[Any]) -> str:
    words = [("optional", item.optional), ("several", item.many), ("one run for each", item.each)]
    return ", ".join(word for word, holds in words if holds)


def _refines(item: Output[Any]) -> str:
    return f"supersedes what it reads as {item.refines}" if item.refines else ""
