"""`kpod cache ls|verify|gc`: what the store holds, whether it is sound, and what nothing needs any more."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from kpod.runner.archive import list_runs
from kpod.runner.commands._options import add_folders, run_options
from kpod.runner.console import complain, say, table
from kpod.runner.errors import ExitCode
from kpod.runner.store import Entry, Store

# An entry younger than this may belong to a run that has not written its archive yet.
_GRACE_S = 3600.0


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("action", choices=["ls", "verify", "gc"])
    parser.add_argument(
        "--yes", action="store_true", help="gc: remove; without it, only say what would be removed"
    )
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    store = run_options(arguments).open_store()
    if arguments.action == "ls":
        return _list(store)
    if arguments.action == "verify":
        return _verify(store)
    return _collect(store, arguments.runs, is_real=arguments.yes)


def _entries(store: Store) -> Iterator[Entry]:
    for key in store.keys():  # noqa: SIM118 - a generator, no dict
        entry = store.get(key)
        if entry is not None:
            yield entry


def size_b(entry: Entry) -> int:
    """Bytes of an entry's outputs."""
    return sum(file.size_b for output in entry.manifest.outputs.values() for file in output.files)


def _list(store: Store) -> int:
    rows = [
        (
            e.manifest.key[:12],
            e.manifest.preimage["uses"],
            f"{size_b(e):,}",
            f"{e.manifest.seconds:.1f} s",
            e.manifest.made_at,
            e.manifest.made_by,
        )
        for e in _entries(store)
    ]
    if rows:
        say(table(("key", "uses", "bytes", "took", "made", "by"), rows))
    for name, reason in store.quarantined():
        say(f"set aside: {name}: {reason}")
    say(f"{len(rows)} entries, {store.texts.count():,} generated texts in {store.root}")
    return ExitCode.DONE


def _verify(store: Store) -> int:
    """Read every file; what differs from its manifest is set aside and will be made again."""
    num_sound = num_corrupt = 0
    for entry in _entries(store):
        differing = store.verify(entry)
        if differing:
            num_corrupt += 1
            store.quarantine(
                entry.manifest.key, f"{', '.join(differing)} changed after it was stored"
            )
            complain(
                f"{entry.manifest.key[:12]}  {entry.manifest.preimage['uses']}  {', '.join(differing)} changed; set aside"
            )
        else:
            num_sound += 1
    say(f"{num_sound} entries are sound, {num_corrupt} were set aside")
    return ExitCode.STAGE_FAILED if num_corrupt else ExitCode.DONE


def _collect(store: Store, runs: Path, *, is_real: bool) -> int:
    """Remove entries that no run's archive names, that no kept entry refers to, and that are not fresh."""
    entries = {entry.manifest.key: entry for entry in _entries(store)}
    needed = {
        unit.manifest.key
        for archive in list_runs(runs)
        if archive.is_complete
        for unit in archive.units.values()
    }
    referred = {
        digest for key in needed & entries.keys() for digest in entries[key].manifest.refers
    }
    now_s = time.time()
    freed_b = 0
    doomed = [
        entry
        for key, entry in entries.items()
        if key not in needed
        and not any(output.digest in referred for output in entry.manifest.outputs.values())
        and now_s - (entry.folder / "manifest.json").stat().st_mtime > _GRACE_S
    ]
    for entry in doomed:
        freed_b += store.remove(entry.manifest.key) if is_real else size_b(entry)
    verb = "removed" if is_real else "would be removed (say --yes)"
    say(f"{len(doomed)} of {len(entries)} entries, {freed_b:,} bytes {verb}")
    return ExitCode.DONE
