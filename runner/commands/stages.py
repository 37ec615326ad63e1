"""`kpod stages [NAME]`."""

from __future__ import annotations

import inspect
import shutil
import sys
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode
from kpod.runner.registry import BrokenPlugin, find_stage, stage_names
from kpod.runner.schema import Setting, describe
from kpod.runner.stage import Input, Output, Stage

_WIDTH = 120
_REQUIRED = "required"


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
    say(_settings(describe(stage.config_class)))
    return ExitCode.DONE


def _settings(settings: Sequence[Setting]) -> str:
    """A setting's facts on a line, its meaning below: as columns, one long default made every line hundreds wide."""
    if not settings:
        return "it has no settings"
    width = min(shutil.get_terminal_size(fallback=(_WIDTH, 0)).columns, _WIDTH)
    lines = [f"settings ({_REQUIRED}: a recipe must give it)"]
    for setting in settings:
        lines += _wrapped(_facts(setting), width, indent="  ", further="      ")
        lines += _wrapped(setting.doc, width, indent="      ", further="      ")
    return "\n".join(lines)


def _facts(setting: Setting) -> str:
    """`rank  integer = 16  (>= 1)`; what a group of settings holds follows it, setting by setting."""
    default = (
        "" if setting.default.startswith("{") and setting.type == "settings" else setting.default
    )
    given = f"  {_REQUIRED}" if setting.is_required else f" = {default}" if default else ""
    return f"{setting.name}  {setting.type}{given}" + (
        f"  ({setting.allowed})" if setting.allowed else ""
    )


def _wrapped(text: str, width: int, *, indent: str, further: str) -> list[str]:
    return textwrap.wrap(
        text.replace("\n", "↵"), max(width, 40), initial_indent=indent, subsequent_indent=further,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


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
