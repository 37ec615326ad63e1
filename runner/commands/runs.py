"""`kpod runs`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from kpod.runner.archive import Archive, list_runs
from kpod.runner.commands._options import add_folders
from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode, KpodError

_WIDTH = 100


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_folders(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Do it."""
    archives = list_runs(arguments.runs)
    if arguments.json:
        rows = [{"run": a.name, "is_complete": a.is_complete, "problem": _problem(a)} for a in archives]  # fmt: skip
        say(json.dumps(rows, indent=1))
    elif archives:
        say(
            table(
                ("run", "recipe", "seed", "executed", "seconds", "scores"),
                [_row(archive) for archive in archives],
            )
        )
    else:
        say(f"no runs in {arguments.runs}")
    return ExitCode.DONE


def _problem(archive: Archive) -> str | None:
    """Why a run has no facts to show, in one line: how it ended, or what is wrong with its archive; None where it has."""
    if not archive.is_complete:
        return archive.end
    try:
        _ = archive.units
    except KpodError as error:
        return str(error).partition("\n")[0].removeprefix(archive.name).lstrip(": ")
    return None


def _started(archive: Archive) -> tuple[str, str]:
    """The recipe and the seed of a run without facts, as its first event tells them."""
    first = next((row for row in archive.events() if row["event"] == "run_started"), {})
    return str(first.get("name", "")), str(first.get("seed", ""))


def _shortened(problem: str) -> str:
    """As much as keeps a table a table; `kpod show RUN` and --json tell all of it."""
    return problem if len(problem) <= _WIDTH else f"{problem[: _WIDTH - 1]}…"


def _row(archive: Archive) -> tuple[str, ...]:
    problem = _problem(archive)
    if problem is not None:
        return (archive.name, *_started(archive), "", "", _shortened(problem))
    units = archive.units.values()
    executed = sum(unit.status == "run" for unit in units)
    scores = [
        f"{unit.element} {unit.manifest.notes['accuracy']['accuracy']:.3f}"
        for unit in units
        if (unit.manifest.notes.get("accuracy") or {}).get("accuracy") is not None
    ]
    facts = archive.facts
    return (
        archive.name,
        facts["name"],
        str(facts["seed"]),
        f"{executed}/{len(units)}",
        f"{facts['seconds']:.1f}",
        "  ".join(scores),
    )
