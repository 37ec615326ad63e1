"""`kpod rerun RUN`: the archived recipe again, from the archive alone."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace

from kpod.runner.archive import Archive, find_run
from kpod.runner.capability import Capability
from kpod.runner.commands._options import add_folders, add_spending, run_options
from kpod.runner.console import RunConsole, json_listener, say, table
from kpod.runner.errors import ExitCode
from kpod.runner.session import Session


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", metavar="RUN", help="a folder, a name, or `last`")
    parser.add_argument("--offline", action="store_true", help="never ask the model hub")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    add_spending(parser)
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it: caches are used (name an empty --store to execute everything), then both runs' outputs are compared."""
    archive = find_run(arguments.run, arguments.runs)
    sources = archive.facts["sources"]
    options = replace(
        run_options(arguments),
        substitutes={
            row["original"]: archive.folder / row["archived"] for row in sources if row["archived"]
        },
        commits={
            row["original"]: row["fact"]["commit"] for row in sources if "commit" in row["fact"]
        },
        capability=Capability(**archive.facts["capability"]),
        rerun_of=archive.name,
        origins=archive.origins,
    )
    session = Session(archive.folder / "resolved.yaml", options)
    again = session.run([json_listener if arguments.json else RunConsole(session.recipe)])
    if not arguments.json:
        _compare(archive, again)
    return ExitCode.DONE


def _compare(before: Archive, after: Archive) -> None:
    """Say, unit by unit, whether the outputs are the same bytes."""
    rows = []
    for name, unit in before.units.items():
        new = after.units[name].manifest.outputs
        differing = [
            out for out, stored in unit.manifest.outputs.items() if new[out].digest != stored.digest
        ]
        rows.append((name, f"{', '.join(differing)} differ" if differing else "identical"))
    say(f"\ncompared with {before.name}")
    say(table(("stage", "outputs"), rows))
