"""`kpod rerun RUN`: the archived recipe again, from the archive alone."""

from __future__ import annotations

import json
import tempfile
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from kpod.runner.archive import Archive, find_run
from kpod.runner.capability import Capability
from kpod.runner.commands._options import add_folders, add_spending, run_options
from kpod.runner.comparing.values import changed_environment
from kpod.runner.console import RunConsole, json_listener, say, table
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.replay import put_external_answers
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
    if not arguments.verify:
        return _tell(archive, _run(archive, options, arguments), arguments, frozenset())
    # Beside the runs: on their file system results are linked, not copied. Gone at the end: the new archive has all of it.
    arguments.runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".verify-", dir=arguments.runs) as folder:
        store = Store(arguments.store or Path(folder))
        if arguments.store is not None and next(store.keys(), None) is not None:
            raise KpodError(
                f"the store {store.root} is not empty, so nothing would be made again\nleave --store out, or name an empty folder"
            )
        replayed = frozenset() if arguments.pay else put_external_answers(archive, store)
        store.close()
        fresh = replace(options, store=store.root, never_asks=not arguments.pay)
        return _tell(archive, _run(archive, fresh, arguments), arguments, replayed)


def _options(archive: Archive, arguments: Namespace) -> RunOptions:
    sources = archive.facts["sources"]
    return replace(
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


def _run(archive: Archive, options: RunOptions, arguments: Namespace) -> Archive:
    session = Session(archive.folder / "resolved.yaml", options)
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
