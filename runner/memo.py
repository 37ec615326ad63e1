"""What need not be worked out twice: file digests by stat, verdicts, package lists, hub commits. One SQLite file.

Losing it costs time, never correctness.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from kpod.runner import wal
from kpod.runner.canonical import digest_of
from kpod.runner.errors import KpodError

# A file changed less than 2 s before it was hashed may change again within the same time stamp (DESIGN 5).
SETTLED_NS = 2_000_000_000
_CHUNK_B = 1 << 20


class Memo:
    """Facts by (topic, name), and file digests that are trusted while a file's stat stands still."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self.bytes_read = 0

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = _connect(self._path)
            except (OSError, sqlite3.DatabaseError):  # read-only, full or damaged
                self._connection = _connect(":memory:")
        return self._connection

    def get(self, topic: str, name: str) -> str | None:
        """A remembered fact, or None; asking makes no file."""
        if self._connection is None and not self._path.exists():
            return None
        question = "SELECT value FROM facts WHERE topic = ? AND name = ?"
        try:
            row = self._open().execute(question, (topic, name)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return None if row is None else str(row[0])

    def put(self, topic: str, name: str, value: str) -> None:
        """Remember a fact; where the store cannot be written it is simply worked out again next time."""
        try:
            self._open().execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (topic, name, value)
            )
        except sqlite3.DatabaseError:
            return

    def file_digest(self, path: Path) -> str:
        """sha256 of a file's bytes; not read again while path, device, inode, size and both times are the same."""
        facts = path.stat()
        name = f"{path}|{facts.st_dev}|{facts.st_ino}|{facts.st_size}|{facts.st_mtime_ns}|{facts.st_ctime_ns}"
        known = self.get("file", name)
        if known is not None:
            return known
        digest = hash_file(path)
        self.bytes_read += facts.st_size
        if time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) > SETTLED_NS:
            self.put("file", name, digest)
        return digest

    def forget_below(self, folders: Sequence[str]) -> None:
        """Forget the file digests of what lay in these folders."""
        if not folders or (self._connection is None and not self._path.exists()):
            return
        # As a range, which the primary key finds at once; "0" is the character after "/".
        ranges = [(f"{folder}/", f"{folder}0") for folder in folders]
        with suppress(sqlite3.DatabaseError):
            connection = self._open()
            connection.execute("BEGIN")
            connection.executemany(
                "DELETE FROM facts WHERE topic = 'file' AND name >= ? AND name < ?", ranges
            )
            connection.execute("COMMIT")

    def tree_digests(self, folder: Path) -> dict[str, str]:
        """Digests of all files below a folder (or of the one file), by relative path with `/`."""
        if folder.is_file():
            return {folder.name: self.file_digest(folder)}
        return {
            path.relative_to(folder).as_posix(): self.file_digest(path)
            for path in files_below(folder)
        }

    def content_digest(self, path: Path) -> str:
        """One digest for a file (its bytes) or a folder (names and bytes of its files)."""
        return self.file_digest(path) if path.is_file() else digest_of(self.tree_digests(path))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(path: Path | str) -> sqlite3.Connection:
    connection = wal.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS facts (topic TEXT, name TEXT, value TEXT, PRIMARY KEY (topic, name))"
        " WITHOUT ROWID"
    )
    return connection


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces of 1 MB."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_B):
            state.update(chunk)
    return state.hexdigest()


def content_digest(path: Path) -> str:
    """As `Memo.content_digest`, every byte read."""
    if path.is_file():
        return hash_file(path)
    return digest_of(
        {below.relative_to(path).as_posix(): hash_file(below) for below in files_below(path)}
    )


def files_below(folder: Path) -> Iterator[Path]:
    """All regular files below a folder, sorted by path; hidden files and folders are left out.

    Raises:
        KpodError: something there is neither a file nor a folder.
    """
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names are wanted, sorted
        path = folder / name
        if name.startswith("."):
            continue
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            yield from files_below(path)
        elif stat.S_ISREG(mode):
            yield path
        else:
            raise KpodError(f"{path} is neither a file nor a folder; move it out of the way")
