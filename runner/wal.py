"""Opening an SQLite file that several processes read and write at once (write-ahead log, autocommit)."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

# How long one waits for another's transaction, or for the one who makes the file.
BUSY_S = 60.0
_PAUSE_S = 0.01


def connect(path: Path | str) -> sqlite3.Connection:
    """A connection to a file, which is made where it is not there.

    Turning on the write-ahead log is the one statement for which SQLite does not wait: two who make the file at once would find it
    locked (seen on 16 processors; https://sqlite.org/wal.html, "Sometimes Queries Return SQLITE_BUSY In WAL Mode").

    Raises:
        sqlite3.OperationalError: the file cannot be opened, or stays locked for a minute.
    """
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                connection.close()
                raise
            time.sleep(_PAUSE_S)
        else:
            return connection
