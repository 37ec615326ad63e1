"""Records by id on disk, so that a join costs the same memory for a thousand rows as for a million."""

from __future__ import annotations

import marshal
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Generic, TypeVar

from kpod.runner import Record

RecordT = TypeVar("RecordT", bound=Record)

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE shelf (name TEXT PRIMARY KEY, is_marked INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL);
"""


class Shelf(Generic[RecordT]):
    """Records of one class, each under one name, in a file that nobody else sees and that is gone with this object.

    The file has no name from the beginning, so nothing is left behind by a kill. What is held in memory is SQLite's page
    cache, 2 MB (its default, https://sqlite.org/pragma.html#pragma_cache_size).

    Args:
        record: their class; its fields are plain values and tuples of them.
        folder: on the disk that is to hold them.
    """

    def __init__(self, record: type[RecordT], folder: Path) -> None:
        self._record = record
        self._fields = [field.name for field in fields(record)]
        number, path = tempfile.mkstemp(prefix="shelf-", dir=folder)
        os.close(number)
        self._rows = sqlite3.connect(path)
        self._rows.executescript(_SCHEMA)
        Path(path).unlink()

    def __len__(self) -> int:
        return int(self._rows.execute("SELECT count(*) FROM shelf").fetchone()[0])

    def __contains__(self, name: str) -> bool:
        found = self._rows.execute("SELECT 1 FROM shelf WHERE name = ?", (name,))
        return found.fetchone() is not None

    def put(self, name: str, row: RecordT) -> bool:
        """Keep a record; False, and what was there stays, where the name is taken."""
        done = self._rows.execute(
            "INSERT OR IGNORE INTO shelf (name, body) VALUES (?, ?)", (name, self._body(row))
        )
        return done.rowcount == 1

    def replace(self, name: str, row: RecordT) -> None:
        """Keep a record in place of what was under that name, if anything was."""
        self._rows.execute(
            "INSERT OR REPLACE INTO shelf (name, body) VALUES (?, ?)", (name, self._body(row))
        )

    def get(self, name: str) -> RecordT:
        """The record of that name, equal to the one that was put.

        Raises:
            KeyError: there is none.
        """
        found = self._rows.execute("SELECT body FROM shelf WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise KeyError(name)
        # Bytes that this process wrote, in a file that no other can open.
        values = marshal.loads(found[0])  # noqa: S302
        return self._record(**dict(zip(self._fields, values, strict=True)))

    def mark(self, name: str) -> bool:
        """Remember that a record was asked for; True the first time, False later and where there is none."""
        done = self._rows.execute(
            "UPDATE shelf SET is_marked = 1 WHERE name = ? AND NOT is_marked", (name,)
        )
        return done.rowcount == 1

    def unmarked(self) -> Iterator[str]:
        """Names of the records that were never marked, in no order."""
        for (name,) in self._rows.execute("SELECT name FROM shelf WHERE NOT is_marked"):
            yield name

    def _body(self, row: RecordT) -> bytes:
        return marshal.dumps([getattr(row, field) for field in self._fields])
