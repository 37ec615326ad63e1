"""`kpod export RUN[:ARM] --as cot|predictions|adapter|merged`: plain files of a run, for programs that know nothing of kpod."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from kpod.runner.archive import Archive, find_run
from kpod.runner.commands._options import add_folders
from kpod.runner.console import say
from kpod.runner.errors import ExitCode
from kpod.runner.export import FILE_NAMES, ExportError, export
from kpod.runner.model_export import DTYPES, MODEL_FORMS, NUM_CHECKED, export_model


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "run",
        metavar="RUN[:ARM]",
        help="a folder, a name, or `last`; ARM: whose rationales, predictions or weights (default: the only one, or the"
        " last of the recipe's compare.primary)",
    )
    parser.add_argument(
        "--as",
        dest="form",
        required=True,
        choices=[*FILE_NAMES, *MODEL_FORMS],
        help="cot: {question, cot}, the rationales that the student read, without their answer phrase (the teacher's own"
        " texts: --stage TEACHER); predictions: {question, generated_text, prediction, gold_answer}; adapter: the student"
        " as a folder for peft, its base named or beside it; merged: as a whole model for transformers",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="PATH",
        help=f"the file (default: {' or '.join(FILE_NAMES.values())} in this folder), or a model's folder (default:"
        f" {' or '.join(f'ARM-{form}' for form in MODEL_FORMS)})",
    )
    parser.add_argument(
        "--stage",
        metavar="ID",
        help="the stage whose output is meant; of a model: the evaluation that it is checked against",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="of a merged model's weights (default: what the student computed in, or is stored in)",
    )
    parser.add_argument(
        "--no-check",
        dest="checks",
        action="store_false",
        help=f"do not load the model and compare its answers to {NUM_CHECKED} prompts with the archived ones",
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    name, arm = _split(arguments.run)
    archive = find_run(name, arguments.runs)
    if arguments.form in MODEL_FORMS:
        return _export_model(arguments, archive, arm)
    if arguments.dtype is not None or not arguments.checks:
        option = "--no-check" if arguments.dtype is None else "--dtype"
        raise ExportError(
            f"{option} has no effect on --as {arguments.form}\nleave it out, or export the student with --as merged"
        )
    done = export(
        archive, arguments.form, to=arguments.to or Path(FILE_NAMES[arguments.form]),
        arm=arm, stage=arguments.stage, overwrites=arguments.force,
    )  # fmt: skip
    if arguments.json:
        say(json.dumps(done.to_json()))
    else:
        say(f"{done.file}  {done.num_rows:,} lines of {done.unit} in {done.run}")
    return ExitCode.DONE


def _export_model(arguments: Namespace, archive: Archive, arm: str | None) -> int:
    done = export_model(
        archive, arguments.form, to=arguments.to, arm=arm, dtype=arguments.dtype,
        stage=arguments.stage, overwrites=arguments.force, checks=arguments.checks,
    )  # fmt: skip
    if arguments.json:
        say(json.dumps(done.to_json()))
    else:
        say(
            f"{done.folder}  {done.form} of {done.arm} in {done.run}, {done.dtype}; {done.check.said}"
        )
    return ExitCode.DONE


def _split(text: str) -> tuple[str, str | None]:
    """The run and the arm; a folder may have a colon in its name."""
    if Path(text).is_dir():
        return text, None
    name, _, arm = text.partition(":")
    return name, arm or None
