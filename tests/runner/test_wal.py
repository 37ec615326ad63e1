"""Opening a file that another process is just making."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from kpod.runner import wal


def locked(path: Path) -> sqlite3.Connection:
    """As the file is while another turns on its write-ahead log."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE facts (name TEXT)")
    other.execute("BEGIN EXCLUSIVE")
    return other


def test_who_comes_second_waits_until_the_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "facts.sqlite"
    other = locked(path)
    waited = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    waited.start()

    connection = wal.connect(path)

    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    waited.join()
    other.close()


def test_a_file_that_stays_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "BUSY_S", 0.05)
    other = locked(tmp_path / "facts.sqlite")

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        wal.connect(tmp_path / "facts.sqlite")
    other.close()


def test_a_file_of_something_else_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "facts.sqlite"
    path.write_text(
        "not a data base, and long enough to be looked at as one" * 40, encoding="ascii"
    )

    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        wal.connect(path)
