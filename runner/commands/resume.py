"""`kpod resume RUN`: a run that did not come to its end goes on, with the recipe as it was then and all that was made."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace

from kpod.runner.archive import Archive, find_run, list_runs
from kpod.runner.commands._options import add_folders, add_spending, run_options
from kpod.runner.console import RunConsole, json_listener, say
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.session import Session


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "run", metavar="RUN", nargs="?", default="last",
        help="a folder, a name, or `last`: the newest run that did not come to its end, nor was gone on with",
    )  # fmt: skip
    parser.add_argument("--offline", action="store_true", help="never ask the model hub")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    add_spending(parser)
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it: what is stored is a hit, an interrupted stage continues from its checkpoint."""
    archive = _unfinished(arguments)
    if archive is None:
        say(f"{arguments.run} came to its end; there is nothing to resume")
        return ExitCode.DONE
    say(f"{archive.name}: {archive.end}")
    options = replace(run_options(arguments), origins=archive.origins)
    session = Session(archive.folder / "resolved.yaml", options)
    session.run([json_listener if arguments.json else RunConsole(session.recipe)])
    return ExitCode.DONE


def _unfinished(arguments: Namespace) -> Archive | None:
    """The run that is meant; None where it is complete."""
    if arguments.run != "last":
        archive = find_run(arguments.run, arguments.runs)
        return None if archive.is_complete else archive
    done: list[Archive] = []
    for archive in reversed(list(list_runs(arguments.runs))):
        if archive.is_complete:
            done.append(archive)
        elif not any(_goes_on_with(later, archive) for later in done):
            return archive
    raise KpodError(
        f"every run in {arguments.runs} came to its end, or one after it with the same recipe did\nkpod runs lists them"
    )


def _goes_on_with(later: Archive, stopped: Archive) -> bool:
    """Whether a later run has the recipe of a stopped one, which may still say `auto` where the later one tells what came of it."""
    lines, later_lines = (
        (each.folder / "resolved.yaml").read_text(encoding="utf-8").splitlines()
        for each in (stopped, later)
    )
    return len(lines) == len(later_lines) and all(
        line == other or (line.endswith(": auto") and other.startswith(line.removesuffix("auto")))
        for line, other in zip(lines, later_lines, strict=True)
    )
