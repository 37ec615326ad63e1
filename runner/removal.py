"""What nothing needs any more is removed from a store, with all that it leaves behind, beside runs that are at work."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress

from kpod.runner.garbage import Garbage, Held
from kpod.runner.remains import last_holder, sweep
from kpod.runner.store import Store
from kpod.runner.trash import by_threads, delete_all_in


def remove_garbage(store: Store, garbage: Garbage) -> int:
    """Remove it, with the lock files and the index of what is gone; the bytes freed. An entry that was used meanwhile stays.

    Entries are moved aside, each in one step, and deleted together at the end: a kill between leaves a folder in tmp/, which
    the next collection finds.
    """
    removed = _remove_entries(store, garbage.entries) if garbage.entries else []
    unfinished = {path.name for path in (store.root / "partial").glob("*")}
    freed_b = sum(held.size_b for held in removed)
    freed_b += sum(store.remove(held.key) for held in removed if held.key in unfinished)
    for path, size_b in garbage.leftovers:
        with suppress(FileNotFoundError):  # somebody else removed it
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        freed_b += size_b
    _forget(store, garbage, removed)
    return freed_b


def _remove_entries(store: Store, entries: Sequence[Held]) -> list[Held]:
    """Those that are gone now; an entry whose key somebody is making stays."""
    trash = store.root / "tmp" / f"trash-{uuid.uuid4().hex}"
    trash.mkdir(parents=True)

    def move(some: Sequence[Held]) -> list[Held]:
        # A folder of its own for each thread: in one folder they would wait for each other at every name.
        folder = f"{trash}/{some[0].key}"
        os.mkdir(folder)  # noqa: PTH102 - paths are texts here, as below
        return [held for held in some if _move(store, held, f"{folder}/{held.key}")]

    moved = [held for some in by_threads(move, entries) for held in some]
    delete_all_in(trash)
    return moved


def _move(store: Store, held: Held, target: str) -> bool:
    """Take an entry out of the store, unless it was used meanwhile or its key is being made."""
    with last_holder(f"{store.root}/locks/{held.key}.lock") as is_ours:
        if not is_ours or _used_s(held.folder) != held.used_s:
            return False
        try:
            os.rename(held.folder, target)  # noqa: PTH104 - ten thousand paths made for nothing take longer
        except FileNotFoundError:  # somebody else removed it
            return False
    return True


def _forget(store: Store, garbage: Garbage, removed: Sequence[Held]) -> None:
    """Bring index, locks and memo in line with the entries that are left."""
    gone = {held.key for held in removed}
    left = [held for held in (*garbage.kept, *garbage.entries) if held.key not in gone]
    holders = {digest: held.key for held in left for digest in held.digests}
    for held in removed:
        for digest in held.digests:
            if digest in holders:  # the index may name the entry that is gone
                store.index(digest, holders[digest])
    sweep(store, holders, frozenset(held.key for held in left), before_s=garbage.looked_s)
    store.memo.forget_below([held.folder for held in removed])


def _used_s(folder: str) -> float:
    try:
        return os.stat(f"{folder}/manifest.json").st_mtime  # noqa: PTH116 - as there
    except OSError:
        return 0.0
