"""`kpod show RUN [dotted.key | q_ID]`: a run, a value with its origin, or one question's journey through all stages."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from kpod.runner.archive import Archive, ArchivedUnit, find_run
from kpod.runner.canonical import flat
from kpod.runner.commands._options import add_folders
from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode, KpodError, nearest
from kpod.runner.execute import summary


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
        _show_journey(archive, arguments.what.removeprefix("q_"))
    else:
        _show_value(archive, arguments.what)
    return ExitCode.DONE


def _show_run(archive: Archive) -> None:
    facts = archive.facts
    say(
        f"{archive.name}\n{facts['recipe']}  seed {facts['seed']}  {facts['seconds']:.1f} s, finished {facts['finished_at']}"
    )
    rows = [
        (u.name, u.uses, u.status, f"{u.manifest.seconds:.1f} s", summary(u.manifest))
        for u in archive.units.values()
    ]
    say(table(("stage", "uses", "", "took", "result"), rows))


def _show_value(archive: Archive, dotted: str) -> None:
    """A value of the resolved recipe (`stages.` may be left out) and where it came from."""
    leaves = dict(flat(archive.resolved))
    name = dotted if dotted in leaves or dotted.startswith("stages.") else f"stages.{dotted}"
    found = {
        key: value for key, value in leaves.items() if key == name or key.startswith(f"{name}.")
    }
    if not found:
        raise KpodError(f"{archive.name} has no value '{dotted}'\n{nearest(name, leaves)}".rstrip())
    rows = [(key, value, archive.origins.get(key, "default")) for key, value in found.items()]
    say(table(("value", "", "from"), rows))


def _show_journey(archive: Archive, start: str) -> None:
    """Everything that the run holds about one question, stage by stage."""
    ids: set[str] = {start}
    is_found = False
    for place, row in _records(archive):
        if not _is_about(row, ids, start):
            continue
        is_found = True
        ids |= {row[name] for name in ("id", "question_id") if name in row}
        say(place)
        for name, value in row.items():
            if value is not None:
                say(
                    f"  {name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
                )
    if not is_found:
        raise KpodError(f"{archive.name} has no question whose id begins with '{start}'")


def _records(archive: Archive) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record of a run, with `unit.output`."""
    for unit in archive.units.values():
        for output, stored in unit.manifest.outputs.items():
            if stored.num_records is not None:
                for row in _rows(archive, unit, output):
                    yield f"{unit.name}.{output}", row


def _rows(archive: Archive, unit: ArchivedUnit, output: str) -> Iterator[dict[str, Any]]:
    path = archive.output_path(unit, output)
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def _is_about(row: dict[str, Any], ids: set[str], start: str) -> bool:
    names = [row[name] for name in ("id", "question_id", "rationale_id") if name in row]
    return any(name in ids or (len(start) >= 4 and name.startswith(start)) for name in names)
