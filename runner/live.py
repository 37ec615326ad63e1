"""Which runs are at work on a store at this moment, told by locks that die with their process: no clock and no pid is trusted."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A run looks at the store before it says that it is there.
_SLACK_S = 60.0


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """Say that a run is at work on the store below `root`, until the block or the process ends."""
    from filelock import FileLock

    path = _folder(root) / f"{uuid.uuid4().hex}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def oldest_start_s(root: Path) -> float | None:
    """When the oldest run that is at work began, in seconds since 1970, a minute less; None where nobody is at work.

    Locks that their process left behind are cleared away.
    """
    from filelock import FileLock, Timeout

    starts = []
    for path in _folder(root).glob("*.lock"):
        with suppress(FileNotFoundError):
            started_s = path.stat().st_mtime
            try:
                with FileLock(path, timeout=0):
                    path.unlink(missing_ok=True)
            except (Timeout, OSError):  # held; or nobody can tell, as nothing may be written here
                starts.append(started_s - _SLACK_S)
    return min(starts, default=None)


def is_locked(path: Path) -> bool:
    """Whether a process holds this lock file.

    Asked of flock itself, which is what FileLock holds: a collector asks of thousands, and a FileLock each costs 0.4 ms.
    """
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:  # nobody can tell
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _folder(root: Path) -> Path:
    return root / "live"
