"""`kpod cache ls|verify|gc`: what the store holds, whether it is sound, and what nothing needs any more."""

from __future__ import annotations

import shutil
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from kpod.runner.archive import Archive, list_runs
from kpod.runner.commands._options import add_folders, run_options
from kpod.runner.console import complain, say, table
from kpod.runner.errors import ExitCode
from kpod.runner.ledger import Ledger
from kpod.runner.memo import files_below
from kpod.runner.store import Entry, Store

# An entry younger than this may belong to a run that has not written its archive yet.
_GRACE_S = 3600.0
# What is unfinished may be a training that goes on for days without touching its folder.
_LEFT_S = 7 * 24 * 3600.0


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
    for line in _asked(store):
        say(line)
    say(f"{len(rows)} entries, {store.texts.count():,} generated texts in {store.root}")
    return ExitCode.DONE


def _asked(store: Store) -> Iterator[str]:
    """What was asked of endpoints and paid, by endpoint and model."""
    rows = [
        (
            endpoint, model, f"{totals.texts:,}", f"{totals.answered:,}", f"{totals.failed:,}",
            f"{totals.unknown + totals.in_flight:,}", f"{totals.prompt_tokens:,}", f"{totals.completion_tokens:,}",
            "no price" if totals.unpriced and totals.unpriced == totals.answered else f"{totals.usd:,.4f}",
        )
        for (endpoint, model), totals in Ledger(store.texts).of_endpoints().items()
    ]  # fmt: skip
    if rows:
        head = ("endpoint", "model", "texts", "answered", "failed", "open or unknown", "tokens in", "tokens out", "USD")  # fmt: skip
        yield table(head, rows)


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
    """Remove entries that no run of this folder has, that no kept entry refers to, and that are not fresh; then what is left over."""
    entries = {entry.manifest.key: entry for entry in _entries(store)}
    needed = {key for archive in list_runs(runs) for key in _keys_of(archive)}
    referred = {
        digest for key in needed & entries.keys() for digest in entries[key].manifest.refers
    }
    now_s = time.time()
    doomed = [
        entry
        for key, entry in entries.items()
        if key not in needed
        and not any(output.digest in referred for output in entry.manifest.outputs.values())
        and now_s - (entry.folder / "manifest.json").stat().st_mtime > _GRACE_S
    ]
    left = [path for path in _leftovers(store) if now_s - path.stat().st_mtime > _LEFT_S]
    freed_b = sum(map(size_b, doomed)) + sum(
        file.stat().st_size for path in left for file in files_below(path)
    )
    if is_real:
        for entry in doomed:
            store.remove(entry.manifest.key)
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
    verb = "removed" if is_real else "would be removed (say --yes)"
    say(f"kept: what the runs in {runs} have, and entries of the last hour")
    say(
        f"{len(doomed)} of {len(entries)} entries and {len(left)} unfinished leftovers, {freed_b:,} bytes {verb}"
    )
    return ExitCode.DONE


def _keys_of(archive: Archive) -> set[str]:
    """The keys that a run has; of one that did not come to its end, those it had got to."""
    if archive.is_complete:
        return {unit.manifest.key for unit in archive.units.values()}
    return {
        str(row["key"])
        for row in archive.events()
        if row["event"] in {"stage_finished", "stage_started"}
    }


def _leftovers(store: Store) -> Iterator[Path]:
    """Drafts of killed runs, checkpoints of stages that were never finished, and what was set aside."""
    for name in ("tmp", "partial", "quarantine"):
        folder = store.root / name
        if folder.exists():
            yield from (path for path in sorted(folder.iterdir()) if path.is_dir())
