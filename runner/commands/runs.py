"""`kpod runs`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from kpod.runner.archive import Archive, list_runs
from kpod.runner.commands._options import add_folders
from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_folders(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Do it."""
    archives = list_runs(arguments.runs)
    if arguments.json:
        say(json.dumps([{"run": a.name, "is_complete": a.is_complete} for a in archives], indent=1))
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


def _row(archive: Archive) -> tuple[str, ...]:
    if not archive.is_complete:
        return (archive.name, "", "", "", "", archive.end)
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
