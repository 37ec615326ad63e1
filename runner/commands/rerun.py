"""`kpod rerun RUN`: the archived recipe again, from the archive alone."""

from __future__ import annotations

import json
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from kpod.runner.archive import Archive, find_run
from kpod.runner.capability import Capability
from kpod.runner.commands._options import add_folders, add_spending, run_options
from kpod.runner.comparing.values import changed_environment
from kpod.runner.console import RunConsole, complain, json_listener, say, table
from kpod.runner.disk import disk_problem
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.replay import put_external_answers
from kpod.runner.seal import damage, input_damage, other_form
from kpod.runner.session import RunOptions, Session
from kpod.runner.store import Store
from kpod.runner.verifying import RELATIVE, Verification, determinism_of, verify


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", metavar="RUN", help="a folder, a name, or `last`")
    parser.add_argument(
        "--verify", action="store_true",
        help="make everything again in an empty store, and say of each result whether it is the same",
    )  # fmt: skip
    parser.add_argument(
        "--pay", action="store_true",
        help="with --verify: ask endpoints again; without it their archived answers are replayed",
    )  # fmt: skip
    parser.add_argument("--offline", action="store_true", help="never ask the model hub")
    parser.add_argument(
        "--json", action="store_true", help="print events, and verdicts, as JSON lines"
    )
    add_spending(parser)
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it: caches are used, unless it is to be verified; then both runs' outputs are compared."""
    archive = find_run(arguments.run, arguments.runs)
    if arguments.pay and not arguments.verify:
        raise KpodError("--pay goes with --verify")
    options = _options(archive, arguments)
    for line in damage(archive) if arguments.verify else input_damage(archive):
        complain(f"{archive.name}: {line}; results are compared by the digests in run.json")
    if not arguments.verify:
        return _tell(archive, _run(archive, options, arguments), arguments, frozenset())
    with _empty_folder(arguments.runs) as folder:
        store = Store(arguments.store or folder)
        if arguments.store is not None and next(store.keys(), None) is not None:
            raise KpodError(
                f"the store {store.root} is not empty, so nothing would be made again\nleave --store out, or name an empty folder"
            )
        replayed = frozenset() if arguments.pay else put_external_answers(archive, store)
        store.close()
        fresh = replace(options, store=store.root, never_asks=not arguments.pay)
        return _tell(archive, _run(archive, fresh, arguments), arguments, replayed)


@contextmanager
def _empty_folder(runs: Path) -> Iterator[Path]:
    """Beside the runs: on their file system results are linked, not copied. Gone at the end: the new archive has all of it."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".verify-", dir=runs)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise disk_problem(error) or KpodError(
            f"cannot write in the runs folder {runs}: {said}\nname another one with --runs DIR"
        ) from error
    with folder as name:
        yield Path(name)


def _options(archive: Archive, arguments: Namespace) -> RunOptions:
    sources = archive.facts["sources"]
    return replace(
        run_options(arguments),
        substitutes={
            row["original"]: archive.folder / row["archived"]
            for row in sources
            if row["archived"] and (archive.folder / row["archived"]).exists()
        },
        commits={
            row["original"]: row["fact"]["commit"] for row in sources if "commit" in row["fact"]
        },
        capability=_capability(archive),
        rerun_of=archive.name,
        origins=archive.origins,
    )


def _capability(archive: Archive) -> Capability:
    """Of the machine that the run was made on; facts that a newer kpod wrote and this one does not know are not needed here."""
    known = {field.name for field in fields(Capability)}
    told = archive.facts["capability"]
    try:
        return Capability(**{name: value for name, value in told.items() if name in known})
    except (TypeError, AttributeError) as error:
        raise KpodError(other_form(archive.name, f"capability: {error}")) from None


def _run(archive: Archive, options: RunOptions, arguments: Namespace) -> Archive:
    session = Session(archive.checked("resolved.yaml"), options)
    return session.run([json_listener if arguments.json else RunConsole(session.recipe)])


def _tell(before: Archive, after: Archive, arguments: Namespace, replayed: frozenset[str]) -> int:
    """Say, output by output, whether it is the same, and keep that with the new run."""
    verdicts = verify(before, after, replayed=replayed)
    kept = {
        "of": before.name,
        "tolerance": RELATIVE,
        "outputs": [one.to_json() for one in verdicts],
    }
    (after.folder / "verification.json").write_text(
        json.dumps(kept, indent=1) + "\n", encoding="utf-8"
    )
    if arguments.json:
        say(json.dumps({"event": "verification", **kept}))
    else:
        _print(before, after, verdicts)
    is_same = all(one.verdict != "diverged" for one in verdicts)
    return ExitCode.DONE if is_same or not arguments.verify else ExitCode.STAGE_FAILED


def _print(before: Archive, after: Archive, verdicts: list[Verification]) -> None:
    say(f"\ncompared with {before.name}")
    rows = [
        (f"{one.unit}.{one.output}", determinism_of(before.units[one.unit].uses), one.verdict, _detail(one))
        for one in verdicts
    ]  # fmt: skip
    say(table(("output", "determinism", "verdict", ""), rows))
    counts = {
        name: sum(one.verdict == name for one in verdicts)
        for name in ("bit-identical", "numerically equal", "replayed", "diverged")
    }
    say(", ".join(f"{count} {name}" for name, count in counts.items() if count))
    diverged = next((one for one in verdicts if one.verdict == "diverged"), None)
    if diverged is not None:
        say(f"first to diverge: {diverged.unit}.{diverged.output}: {diverged.first}")
        changed = list(changed_environment(before, after))
        say(
            table(("environment", "then", "now"), changed)
            if changed
            else "the environment is the same"
        )


def _detail(one: Verification) -> str:
    if one.verdict == "numerically equal":
        return f"floats differ by at most {one.largest:.1e} of their size (allowed: {RELATIVE:.0e})"
    return one.first
