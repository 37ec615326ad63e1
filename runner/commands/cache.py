"""`kpod cache ls|verify|gc|pin|unpin`: what the store holds, whether it is sound, what nothing needs, and what is to stay."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from kpod.runner.commands._options import add_folders, run_options
from kpod.runner.console import complain, say, table
from kpod.runner.disk import disk_problem
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.garbage import Garbage, find_garbage
from kpod.runner.ledger import Ledger
from kpod.runner.pins import pin, pins, unpin
from kpod.runner.removal import remove_garbage
from kpod.runner.store import Entry, Store


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("action", choices=["ls", "verify", "gc", "pin", "unpin"])
    parser.add_argument(
        "name", nargs="*", metavar="RUN|RUN:STAGE|KEY", help="pin, unpin: what is meant; none: list"
    )
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
    if arguments.action == "gc":
        return _collect(store, arguments.runs, is_real=arguments.yes)
    return _pin(store, arguments)


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
    """Say what nothing needs, by the recipe that made it; remove it where that was asked for."""
    garbage = find_garbage(store, runs)
    rows = [
        (name, f"{count:,}", f"{size_b:,}") for name, (count, size_b) in garbage.by_recipe().items()
    ]
    if garbage.leftovers:
        size_b = sum(size for _, size in garbage.leftovers)
        rows.append(("unfinished leftovers", f"{len(garbage.leftovers):,}", f"{size_b:,}"))
    if rows:
        say(table(("made by recipe", "entries", "bytes"), rows))
    say(
        f"kept: what the runs in {runs} have, {garbage.num_pinned} pinned entries, what was made or used within an hour"
    )
    freed_b = _remove(store, garbage) if is_real else garbage.size_b
    verb = "removed" if is_real else "would be removed (say --yes)"
    say(
        f"{len(garbage.entries)} of {garbage.num_entries} entries and {len(garbage.leftovers)} unfinished leftovers, {freed_b:,} bytes {verb}"
    )
    return ExitCode.DONE


def _remove(store: Store, garbage: Garbage) -> int:
    try:
        return remove_garbage(store, garbage)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise disk_problem(error) or KpodError(
            f"cannot remove from the store {store.root}: {said}\nthe same command goes on with what is left"
        ) from error


def _pin(store: Store, arguments: Namespace) -> int:
    """Pin or unpin what was named; list the pins where nothing was."""
    if not arguments.name:
        rows = [(one.key[:12], one.named, one.at) for one in pins(store)]
        say(table(("key", "named", "pinned"), rows) if rows else "nothing is pinned")
        return ExitCode.DONE
    change, verb = (pin, "pinned") if arguments.action == "pin" else (unpin, "no longer pinned")
    for name in arguments.name:
        number = len(change(store, name, arguments.runs))
        say(f"{number} {'entry' if number == 1 else 'entries'} {verb}: {name}")
    return ExitCode.DONE
