"""The SQLite file that all processes of a store write at once: texts, claims, requests, batches; and who is alive.

An owner is one open handle of one process. It holds the lock on a file of its own (`owners/<id>.lock`) as long as it
lives; the system frees that lock at whatever instant the process dies, so no clock is read to tell who is alive.

Durability: WAL with synchronous=NORMAL. What was committed outlives the process; a power cut may cost the newest
commits of the last moments (what was not yet synced), never half of one (https://sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from filelock import BaseFileLock

# SQLite allows 32,766 variables in a statement since 3.32; half of that leaves room.
_CHUNK = 16_000
# Pages of 4 KiB in the log before it is synced into the file. Measured on 10,000 requests: 0.43 ms of wall time a request at
# SQLite's default of 1,000, 0.29 ms at 8,000, where the log is 32 MB; this is between.
_CHECKPOINT_PAGES = 4000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, text TEXT NOT NULL, finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, provenance TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (number INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, run TEXT NOT NULL,
    unit TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, attempt INTEGER NOT NULL, num_keys INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT, num_texts INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER, usd REAL,
    seconds REAL, sent_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batch (custom_id TEXT PRIMARY KEY, uses TEXT NOT NULL, keys TEXT NOT NULL,
    endpoint TEXT NOT NULL, model TEXT NOT NULL, input_price REAL, output_price REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_answers (digest TEXT PRIMARY KEY, custom_id TEXT NOT NULL) WITHOUT ROWID;
"""


class SharedFile:
    """One handle on the file. Not for several threads at once; each opens its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._owner: str | None = None
        self._lock: BaseFileLock | None = None

    @property
    def is_there(self) -> bool:
        """Whether anything was ever stored; asking makes no file."""
        return self._connection is not None or self._path.exists()

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection, in autocommit; the file and its tables are made where they are not there."""
        if self._connection is None:
            from kpod.runner import wal

            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = wal.connect(self._path)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            self._connection = connection
        return self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that no other writer comes between; all of it is kept, or nothing."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    @property
    def has_owner(self) -> bool:
        """Whether this handle has claimed or sent anything yet."""
        return self._owner is not None

    def owner(self) -> str:
        """This handle's name among the owners, alive from now on. Only inside `writing`: nobody looks meanwhile."""
        if self._owner is None:
            from filelock import FileLock

            name = uuid.uuid4().hex
            path = self._lock_path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path, thread_local=False)
            self._lock.acquire(timeout=0)
            self._owner = name
            self._sweep()
        return self._owner

    def is_alive(self, owner: str) -> bool:
        """Whether an owner's process still lives. Only inside `writing`; a dead one's claims fall and its requests become unknown."""
        if owner == self._owner:
            return True
        path = self._lock_path(owner)
        if path.exists():
            from filelock import FileLock, Timeout

            lock = FileLock(path, thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return True
            lock.release()
            path.unlink(missing_ok=True)
        self._bury(owner)
        return False

    def _bury(self, owner: str) -> None:
        self.connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))
        self.connection.execute(
            "UPDATE requests SET state = 'unknown' WHERE owner = ? AND state = 'sent'", (owner,)
        )

    def _sweep(self) -> None:
        """Bury every owner that died since somebody last looked, so that their files do not pile up."""
        for path in self._lock_path("").parent.glob("*.lock"):
            self.is_alive(path.stem)

    def _lock_path(self, owner: str) -> Path:
        return self._path.parent / "owners" / f"{owner}.lock"

    def close(self) -> None:
        """Give back all claims and close the file; the next use opens it again, as another owner."""
        if self._owner is not None:
            self._leave(self._owner)
            self._owner, self._lock = None, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _leave(self, owner: str) -> None:
        """Be buried by ourselves; where the disk is full, whoever comes next does it."""
        import sqlite3

        with suppress(sqlite3.OperationalError), self.writing():
            self._bury(owner)
            self._lock_path(owner).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release()


def chunks(keys: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Keys in groups that fit a statement, each with the marks `?,?,…` for it."""
    for start in range(0, len(keys), _CHUNK):
        group = keys[start : start + _CHUNK]
        yield ",".join("?" * len(group)), group
