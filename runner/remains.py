"""What results leave behind them in a store: the lock files of their keys, and the index of which key made a content.

When a lock file may be removed. A lock is on a file, not on its name: whoever has opened the file and waits would, once the
name is gone, get the lock of a file that nobody else can find, while a third makes a new file of that name and locks that.
So two rules are kept, and it takes both:

1. Only whoever holds the lock removes the name. So it is never taken from under somebody who holds it.
2. Whoever is given a lock looks whether its file still has a name (`st_nlink`), and begins anew where it has none: it was
   opened before the name went, and given after. FileLock does so since 3.25, the oldest that pyproject.toml takes; a test of
   two processes holds the installed one to that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kpod.runner.store import Store
from kpod.runner.trash import by_threads

_SUFFIX = ".lock"


@contextmanager
def last_holder(path: str) -> Iterator[bool]:
    """Hold a lock file, and remove it in the end; false where somebody else holds it, or nobody can tell.

    Asked of flock itself, which is what FileLock holds: a collector asks of thousands, and a FileLock each costs 0.4 ms.

    Args:
        path: where there is no such file, nobody holds it.
    """
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.fstat(descriptor).st_nlink > 0  # else another collector was faster
    except OSError:
        is_ours = False
    try:
        yield is_ours
        if is_ours:
            os.unlink(path)  # noqa: PTH108 - a Path for each of thousands takes longer than the removal
    finally:
        os.close(descriptor)


def sweep(
    store: Store, holders: Mapping[str, str], keys: frozenset[str], *, before_s: float
) -> None:
    """Remove the lock files and the index of what is no more, also of what an earlier kpod removed without them.

    An index file that should have stayed costs time, no result: `Store.find_output` then looks through all entries.

    Args:
        store: any.
        holders: by content of an entry that is there, its key; the index may name another one that is gone.
        keys: of the entries that are there.
        before_s: what was indexed later, in seconds since 1970, stays: its entry was not looked at.
    """
    locks = store.root / "locks"
    by_threads(
        _remove_locks,
        [f"{locks}/{name}" for name in _names_in(locks) if name.removesuffix(_SUFFIX) not in keys],
    )
    outputs = store.root / "outputs"
    indexed = [
        f"{outputs}/{group}/{name}"
        for group in _names_in(outputs)
        for name in _names_in(outputs / group)
    ]
    gone = [path for path in indexed if path.rpartition("/")[2] not in holders]
    by_threads(lambda paths: _remove_older(paths, before_s), gone)


def _remove_locks(paths: Sequence[str]) -> None:
    for path in paths:
        with last_holder(path):
            pass


def _remove_older(paths: Sequence[str], before_s: float) -> None:
    for path in paths:
        with suppress(FileNotFoundError):  # another collector was faster
            if os.stat(path).st_mtime < before_s:  # noqa: PTH116 - as above
                os.unlink(path)  # noqa: PTH108


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are wanted
    except (FileNotFoundError, NotADirectoryError):
        return []
