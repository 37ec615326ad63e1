"""The few ways in which kpod changes a disk for good, in one place, so that a test can stop the process at each.

A publish is: write privately, sync, rename. What is not renamed yet is never read.
"""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path

from kpod.runner.errors import StageError


class Disk:
    """The real disk. Tests put in one that dies, or is full, at a chosen call."""

    def make_folder(self, path: Path) -> None:
        """Create a folder and its parents."""
        path.mkdir(parents=True, exist_ok=True)

    def write_text(self, path: Path, text: str) -> None:
        """Write a file and sync it."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def sync(self, path: Path) -> None:
        """Wait until a file's bytes are on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_folders(self, top: Path) -> None:
        """Wait until the names in a folder and in those below it are on the disk."""
        for path in (*(path for path in top.rglob("*") if path.is_dir()), top):
            self.sync(path)

    def rename(self, source: Path, target: Path) -> None:
        """Give a folder its final name, in one step; leave an existing, equal one as it is."""
        try:
            source.rename(target)
        except OSError:
            if not (target / "manifest.json").exists():
                raise
        self.sync(target.parent)

    def replace_text(self, path: Path, text: str) -> None:
        """Write a small file so that readers see the old text or the new one, never a part."""
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name (a hard link)."""
        os.link(source, target)


DISK = Disk()

_ADVICE = {
    errno.ENOSPC: "free some space; the same command continues, nothing is lost",
    errno.EDQUOT: "your quota is used up; free some space, the same command continues, nothing is lost",
    errno.EROFS: "the file system is read-only; name other folders with --runs DIR and --store DIR",
    errno.EACCES: "allow writing there, or name other folders with --runs DIR and --store DIR",
}


# What libraries that do not raise OSError (SQLite, safetensors, torch) say of a full or read-only disk.
_PHRASES = {
    "no space left on device": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
}


def disk_problem(error: Exception) -> StageError | None:
    """The error for a person where the disk is full or may not be written; None for any other."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        said = str(error).lower()
        number = next((code for phrase, code in _PHRASES.items() if phrase in said), None)
    advice = _ADVICE.get(number or 0)
    if number is None or advice is None:
        return None
    place = getattr(error, "filename", None) or "writing"
    return StageError(f"{place}: {os.strerror(number).lower()}\n{advice}")
