"""`kpod show RUN [dotted.key | q_ID]`: a run, a value with its origin, or one question's journey through all stages."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping

from kpod.runner.archive import Archive, find_run
from kpod.runner.canonical import flat
from kpod.runner.commands._options import add_folders
from kpod.runner.console import complain, say, table
from kpod.runner.errors import ExitCode, KpodError, nearest


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", metavar="RUN", help="a folder, a name, or `last`")
    parser.add_argument(
        "what",
        metavar="KEY|q_ID",
        nargs="?",
        help="stages.kpod.with.epochs, or q_ and a question's id (or its beginning)",
    )
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    archive = find_run(arguments.run, arguments.runs)
    if arguments.what is None:
        _show_run(archive)
    elif re.fullmatch("(q_)?[0-9a-f]{4,16}", arguments.what):
        from kpod.runner.commands._journey import journey_lines

        _check_records(archive)
        for line in journey_lines(archive, arguments.what.removeprefix("q_")):
            say(line)
    elif arguments.what.startswith("q_"):
        raise KpodError(
            f"got {arguments.what}, but a question's id is q_ and 4 to 16 digits of 0-9 and a-f\n"
            "allowed: an id, or its beginning, as `kpod diff`, the report and predictions.jsonl tell it"
        )
    else:
        _show_value(archive, arguments.what)
    return ExitCode.DONE


def _show_run(archive: Archive) -> None:
    facts = archive.facts
    say(
        f"{archive.name}\n{facts['recipe']}  seed {facts['seed']}  {facts['seconds']:.1f} s, finished {facts['finished_at']}"
    )
    rows = [
        (u.name, u.uses, u.status, f"{u.manifest.seconds:.1f} s", u.manifest.summary)
        for u in archive.units.values()
    ]
    say(table(("stage", "uses", "", "took", "result"), rows))


def _check_records(archive: Archive) -> None:
    """Say which records are gone from the archive and are left out; raises KpodError where some are not what they were."""
    for unit in archive.units.values():
        for output, stored in unit.manifest.outputs.items():
            if stored.num_records is None:
                continue
            if archive.output_path(unit, output).exists():
                next(archive.rows(unit, output), None)
            else:
                complain(f"{unit.name}.{output} is gone from the archive; it is left out")


def _show_value(archive: Archive, dotted: str) -> None:
    """A value of the resolved recipe (`stages.` may be left out) and where it came from."""
    leaves = dict(flat(archive.resolved))
    found = _below(leaves, dotted) or _below(leaves, f"stages.{dotted}")
    if not found:
        known = [
            *leaves,
            *(name.removeprefix("stages.") for name in leaves),
            *archive.resolved["stages"],
        ]
        raise KpodError(
            f"{archive.name} has no value '{dotted}'\n{nearest(dotted, known)}".rstrip()
        )
    rows = [(key, value, archive.origins.get(key, "default")) for key, value in found.items()]
    say(table(("value", "", "from"), rows))


def _below(leaves: Mapping[str, str], name: str) -> dict[str, str]:
    """The value of that name, or all below it."""
    return {
        key: value for key, value in leaves.items() if key == name or key.startswith(f"{name}.")
    }
