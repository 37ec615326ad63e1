"""`kpod export RUN[:ARM] --as cot|predictions`: plain files of a run, for programs that know nothing of kpod."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from kpod.runner.archive import find_run
from kpod.runner.commands._options import add_folders
from kpod.runner.console import say
from kpod.runner.errors import ExitCode
from kpod.runner.export import FILE_NAMES, export


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "run",
        metavar="RUN[:ARM]",
        help="a folder, a name, or `last`; ARM: whose rationales or predictions (default: the only one, or the last of"
        " the recipe's compare.primary)",
    )
    parser.add_argument(
        "--as",
        dest="form",
        required=True,
        choices=list(FILE_NAMES),
        help="cot: {question, cot}, the rationales that the student read, without their answer phrase (the teacher's own"
        " texts: --stage TEACHER); predictions: {question, generated_text, prediction, gold_answer}",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help=f"the file (default: {' or '.join(FILE_NAMES.values())} in this folder)",
    )
    parser.add_argument("--stage", metavar="ID", help="the stage whose output is meant")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    name, arm = _split(arguments.run)
    done = export(
        find_run(name, arguments.runs), arguments.form, to=arguments.to or Path(FILE_NAMES[arguments.form]),
        arm=arm, stage=arguments.stage, overwrites=arguments.force,
    )  # fmt: skip
    if arguments.json:
        say(json.dumps(done.to_json()))
    else:
        say(f"{done.file}  {done.num_rows:,} lines of {done.unit} in {done.run}")
    return ExitCode.DONE


def _split(text: str) -> tuple[str, str | None]:
    """The run and the arm; a folder may have a colon in its name."""
    if Path(text).is_dir():
        return text, None
    name, _, arm = text.partition(":")
    return name, arm or None
