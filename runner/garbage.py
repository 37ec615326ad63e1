"""What a store holds that nothing needs, safe to be asked beside a run that is at work; `removal.py` removes it.

Needed is what a run of the folder has, what is pinned, what a needed entry refers to (an adapter its base), what was made
or used within the grace, and, while runs are at work, what was used since the oldest of them began.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kpod.runner.archive import Archive, list_runs
from kpod.runner.live import is_locked, oldest_start_s
from kpod.runner.memo import files_below
from kpod.runner.pins import pins
from kpod.runner.store import Store

GRACE_S = 3600.0
"""An entry younger than this may belong to a run that has not written its archive yet: our choice."""

LEFT_S = 7 * 24 * 3600.0
"""A checkpoint of a stage that was never finished is kept for a week: somebody may want to go on."""


@dataclass(frozen=True, slots=True)
class Held:
    """An entry as the collector sees it.

    Args:
        folder: where it lies.
        used_s: when it was made or last a hit, in seconds since 1970.
        digests: of its outputs.
        refers: digests of outputs that these need.
        size_b: of its outputs.
        recipe: name of the recipe that made it.
    """

    key: str
    folder: str
    used_s: float
    digests: tuple[str, ...]
    refers: tuple[str, ...]
    size_b: int
    recipe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What may go.

    Args:
        entries: nothing needs them.
        leftovers: drafts of killed runs, old checkpoints, what was set aside, copies of inputs that no run names.
        kept: all other entries.
        num_pinned: of them pinned.
        looked_s: when the search began, in seconds since 1970.
    """

    entries: tuple[Held, ...]
    leftovers: tuple[tuple[Path, int], ...]
    kept: tuple[Held, ...]
    num_pinned: int
    looked_s: float

    @property
    def num_entries(self) -> int:
        """Of the whole store."""
        return len(self.entries) + len(self.kept)

    @property
    def size_b(self) -> int:
        """Bytes that go with it."""
        return sum(held.size_b for held in self.entries) + sum(size for _, size in self.leftovers)

    def by_recipe(self) -> dict[str, tuple[int, int]]:
        """(entries, bytes) by the recipe that made them, the largest first."""
        counts = Counter(held.recipe for held in self.entries)
        sizes: Counter[str] = Counter()
        for held in self.entries:
            sizes[held.recipe] += held.size_b
        return {name: (counts[name], size) for name, size in sizes.most_common()}


def find_garbage(
    store: Store, runs: Path, *, grace_s: float = GRACE_S, now_s: float | None = None
) -> Garbage:
    """Look through the store; nothing is removed.

    Args:
        store: any.
        runs: the folder whose runs need their results.
        grace_s: seconds for which an entry is kept after it was made or used.
        now_s: the time, in seconds since 1970; None: the clock's.
    """
    looked_s = time.time()
    now_s = looked_s if now_s is None else now_s
    archives = list_runs(runs)
    pinned = {pin.key for pin in pins(store)}
    entries = {held.key: held for held in _entries(store)}
    began_s = oldest_start_s(store.root)
    fresh_since_s = min(now_s - grace_s, now_s if began_s is None else began_s)
    roots = pinned | {key for archive in archives for key in keys_of(archive)}
    roots |= {key for key, held in entries.items() if held.used_s >= fresh_since_s}
    needed = _with_what_they_refer_to(roots, entries)
    doomed = [held for key, held in entries.items() if key not in needed]
    sources = {digest for archive in archives for digest in _sources_of(archive)}
    left = [
        *_old_leftovers(store, now_s=now_s, grace_s=grace_s),
        *_unnamed_sources(store, sources, since_s=fresh_since_s),
    ]
    return Garbage(
        entries=tuple(doomed),
        leftovers=tuple((path, _bytes_below(path)) for path in left),
        kept=tuple(held for key, held in entries.items() if key in needed),
        num_pinned=len(pinned & entries.keys()),
        looked_s=looked_s,
    )


def keys_of(archive: Archive) -> set[str]:
    """The keys that a run has; of one that did not come to its end, or whose run.json is damaged, those that its events name."""
    try:
        return {row["manifest"]["key"] for row in _facts_of(archive)["units"]}
    except (KeyError, TypeError):
        return {
            str(row["key"])
            for row in archive.events()
            if row["event"] in {"stage_finished", "stage_started"} and "key" in row
        }


def _sources_of(archive: Archive) -> set[str]:
    """The copies of local inputs that a run names; what it has of them itself are links."""
    try:
        rows = _facts_of(archive)["sources"]
        return {row["fact"]["sha256"] for row in rows if "sha256" in row["fact"]}
    except (KeyError, TypeError):
        return set()


def _facts_of(archive: Archive) -> dict[str, Any]:
    """run.json as it lies there, whatever its version; nothing where it is not there or cannot be read."""
    try:
        found = orjson.loads((archive.folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _entries(store: Store) -> Iterator[Held]:
    for key in store.keys():  # noqa: SIM118 - a generator, no dict
        folder = str(store.entry_folder(key))
        try:
            with open(f"{folder}/manifest.json", "rb") as file:  # noqa: PTH123 - as below
                row: dict[str, Any] = orjson.loads(file.read())
                used_s = os.fstat(file.fileno()).st_mtime
            outputs = row["outputs"].values()
            yield Held(
                key, folder, used_s, tuple(out["digest"] for out in outputs), tuple(row["refers"]),
                sum(file["size_b"] for out in outputs for file in out["files"]), _recipe_of(row["made_by"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # on its way in or out, or damaged: `kpod cache verify` sets it aside


def _recipe_of(run_name: str) -> str:
    """The recipe's name in <stamp>-<name>-<key6>."""
    return "-".join(run_name.split("-")[1:-1]) or run_name or "unknown"


def _with_what_they_refer_to(roots: set[str], entries: Mapping[str, Held]) -> set[str]:
    by_digest: dict[str, list[str]] = {}
    for held in entries.values():
        for digest in held.digests:
            by_digest.setdefault(digest, []).append(held.key)
    needed: set[str] = set()
    waiting = [key for key in roots if key in entries]
    while waiting:
        key = waiting.pop()
        if key not in needed:
            needed.add(key)
            waiting += [
                other for digest in entries[key].refers for other in by_digest.get(digest, ())
            ]
    return needed


def _old_leftovers(store: Store, *, now_s: float, grace_s: float) -> Iterator[Path]:
    """Drafts of killed runs, checkpoints of stages that were never finished, and what was set aside."""
    for name, age_s in (("tmp", grace_s), ("partial", LEFT_S), ("quarantine", LEFT_S)):
        folder = store.root / name
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            if (
                path.is_dir()
                and now_s - _newest_s(path) > age_s
                and not _is_being_made(store, path)
            ):
                yield path


def _is_being_made(store: Store, path: Path) -> bool:
    """Whether a process holds the lock of the key that a draft or a checkpoint is for."""
    key = path.name.partition("-")[0]
    return any(is_locked(lock) for lock in (store.root / "locks").glob(f"{key}*.lock"))


def _newest_s(folder: Path) -> float:
    """When anything in a folder was last written."""
    times = [folder.stat().st_mtime]
    for path in files_below(folder):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times)


def _unnamed_sources(store: Store, named: set[str], *, since_s: float) -> Iterator[Path]:
    """Copies of local inputs that no run names."""
    root = store.root / "sources"
    for group in sorted(root.iterdir()) if root.exists() else ():
        for path in sorted(group.iterdir()):
            if path.name not in named and path.stat().st_mtime < since_s:
                yield path


def _bytes_below(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in files_below(path) if file.exists())
