"""The memory that a container or a job of a cluster may use, which is less than the machine's: Linux control groups.

Source: Linux kernel documentation, cgroup-v2 (memory.max) and cgroup-v1/memory (memory.limit_in_bytes). A limit of any group
above holds too. A container often sees its own group as the root, whatever path the process is told: hence the way up to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MEMBERSHIP = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def memory_limit_b(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> int | None:
    """The least limit on this process's memory, in bytes; None where there is none, or none is told.

    Args:
        membership: lists the groups of this process, `number:controllers:path` a line; version 2 has no controllers.
        root: where the groups are mounted.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    limits = [
        limit
        for line in lines
        for path in _files(line, root)
        if (limit := _number(path)) is not None
    ]
    return min(limits, default=None)


def _files(line: str, root: Path) -> Iterator[Path]:
    """Where a group and those above it may have a limit."""
    _, controllers, group = line.split(":", 2)
    names = controllers.split(",")
    if controllers and "memory" not in names:
        return
    top, file = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
    inner = PurePosixPath(group.lstrip("/"))
    for above in (inner, *inner.parents):
        if ".." not in above.parts:
            yield top / above / file


def _number(path: Path) -> int | None:
    """What a file says; None for `max`, and where it is not there."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
