"""Files given a second place: as a link where that is possible, else as a copy up to a size; whole or not at all."""

from __future__ import annotations

import errno
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from kpod.runner.disk import Disk
from kpod.runner.memo import content_digest, files_below

# On another file system an output is copied up to this size; a bigger one is named by its digest (DESIGN 5).
COPY_LIMIT_B = 1_000_000_000
# Another file system, one without links, a file of another person's (protected_hardlinks), too many links.
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS})


def link_or_copy(source: Path, target: Path, *, disk: Disk) -> None:
    """Give a file a second name; where that cannot be and it is not too big, a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        disk.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        if source.stat().st_size <= COPY_LIMIT_B:
            shutil.copyfile(source, target)


def copy_whole(source: Path, target: Path, *, digest: str) -> bool:
    """Copy a file or a folder so that it is there whole or not at all.

    Returns:
        False where it is over the limit, or has not that content any more.
    """
    paths = [source] if source.is_file() else list(files_below(source))
    if sum(path.stat().st_size for path in paths) > COPY_LIMIT_B:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        if source.is_file():
            shutil.copyfile(source, draft)
        else:
            shutil.copytree(source, draft, ignore=shutil.ignore_patterns(".*"))
        if content_digest(draft) != digest:
            return False
        with suppress(OSError):  # another run may have put the same there
            draft.replace(target)
        return target.exists()
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        draft.unlink(missing_ok=True)
