"""`kpod schema [--write|--check]`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kpod.runner.console import complain, say
from kpod.runner.errors import ExitCode
from kpod.runner.recipe_schema import all_schemas, schema_folder
from kpod.runner.schema import render_schema


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--write", action="store_true", help="write schemas/*.json from the Config classes"
    )
    group.add_argument(
        "--check", action="store_true", help="fail where a committed schema differs (the default)"
    )


def run(arguments: Namespace) -> int:
    """Do it."""
    folder = schema_folder()
    wanted = {name: render_schema(schema) for name, schema in all_schemas().items()}
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    if arguments.write:
        for name in present.keys() - wanted.keys():
            (folder / name).unlink()
        for name, text in wanted.items():
            if present.get(name) != text:
                (folder / name).write_text(text, encoding="utf-8", newline="\n")
                say(f"wrote {name}")
        return ExitCode.DONE
    differing = sorted(
        name for name in {*wanted, *present} if wanted.get(name) != present.get(name)
    )
    for name in differing:
        complain(f"{name} is not what the Config class says; run: kpod schema --write")
    return ExitCode.INVALID if differing else ExitCode.DONE
