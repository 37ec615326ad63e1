"""`kpod explain RECIPE|RUN [STAGE]`: what a result is made from, and why it runs or does not."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kpod.runner.archive import find_run
from kpod.runner.assembly import find_recipe
from kpod.runner.commands._options import add_folders, run_options
from kpod.runner.console import say
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.keys import changes
from kpod.runner.preimages import read_preimage, read_recent
from kpod.runner.session import Session


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "subject",
        metavar="RECIPE|RUN",
        help="a recipe (what would happen) or a run (what happened)",
    )
    parser.add_argument(
        "stage",
        metavar="STAGE",
        nargs="?",
        help="a stage's id, or scores[kpod]: its whole pre-image",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="K=V",
        help="change a value first",
    )
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    path = find_recipe(arguments.subject)
    is_recipe = path.is_file()
    rows = _planned(path, arguments) if is_recipe else _archived(arguments)
    chosen = [row for row in rows if arguments.stage in (None, row["name"], row["stage"])]
    if not chosen:
        raise KpodError(
            f"no stage has the id '{arguments.stage}'\nallowed: {', '.join(row['name'] for row in rows)}"
        )
    for row in chosen:
        say(
            f"{row['name']}  {row['uses']}  {row['status']}"
            + (f"  {row['reason']}" if row["reason"] else "")
        )
        if row["key"]:
            say(f"  key {row['key'][:16]}")
        for line in row["since"]:
            say(f"  {line}")
        if arguments.stage and row["image"]:
            for line in _image_lines(row["image"]):
                say(f"  {line}")
    return ExitCode.DONE


def _planned(path: Path, arguments: Namespace) -> list[dict[str, Any]]:
    session = Session(path, run_options(arguments))
    recent = read_recent(session.store, session.recipe.name)
    rows = []
    for item in session.planner.plan():
        before = recent.get(item.unit.name)
        old = read_preimage(session.store, before) if before and before != item.key else None
        since = (
            [f"since the last run: {line}" for line in changes(old, item.image)]
            if old and item.image
            else []
        )
        since += _accepted(item.entry.manifest.notes if item.entry else {})
        rows.append(
            {
                "name": item.unit.name, "stage": item.unit.stage.id, "uses": item.unit.stage.uses, "status": item.status,
                "reason": "" if since else item.reason, "key": item.key, "image": item.image, "since": since,
            }
        )  # fmt: skip
    return rows


def _archived(arguments: Namespace) -> list[dict[str, Any]]:
    archive = find_run(arguments.subject, arguments.runs)
    return [
        {
            "name": unit.name, "stage": unit.stage, "uses": unit.uses, "status": unit.status, "reason": unit.reason,
            "key": unit.manifest.key, "image": unit.manifest.preimage,
            "since": [
                f"made {unit.manifest.made_at} by {unit.manifest.made_by} in {unit.manifest.seconds:.1f} s",
                *_accepted(unit.manifest.notes),
            ],
        }
        for unit in archive.units.values()
    ]  # fmt: skip


def _accepted(notes: Mapping[str, Any]) -> list[str]:
    """That a result was made by other code, where `kpod accept` let it stand."""
    kept = notes.get("accepted")
    if not kept:
        return []
    return [
        f"accepted {kept['at']}: {kept['because']} ({kept['changed']}; made again: {kept['made_again']}: {kept['verdict']})"
    ]


def _image_lines(image: dict[str, Any]) -> Iterator[str]:
    """The pre-image, a line a fact."""
    seed = "no seed" if image["seed"] is None else f"seed {image['seed']}"
    yield f"version {str(image['version'])[:12]}, {seed}"
    for part, noun in (
        ("config", "config"),
        ("inputs", "input"),
        ("sources", "source"),
        ("libraries", "library"),
    ):
        for name, value in sorted(image[part].items()):
            yield f"{noun} {name} = {_value_text(part, value)}"


def _value_text(part: str, value: Any) -> str:
    """A value of the pre-image; digests by their beginnings."""
    if part == "inputs":
        return ", ".join(digest[:12] for digest in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
