"""The record store: every generated text once, for teachers and evaluation alike, in one SQLite file of the store.

A text is named by what made it (prompt ids, model content, precision, decoding parameters, seed and sample index),
never by run, row or data set, so that a grown or reordered set of questions pays only for what is new (DESIGN 5).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner.record import Finish

if TYPE_CHECKING:
    import sqlite3

# SQLite allows 32,766 variables in a statement since 3.32; half of that leaves room.
_CHUNK = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedText:
    """One stored text.

    Args:
        text: what the model said, special tokens removed.
        finish: stop, length (cut at the token limit), or content_filter.
        prompt_tokens, completion_tokens: counted by the engine; the completion without its end token.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int


def text_key(facts: Mapping[str, Any]) -> str:
    """The name of a text: sha256 over canonical JSON of everything that decides it."""
    canonical = json.dumps(facts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class TextStore:
    """Generated texts by key. Safe for many processes at once (SQLite in WAL mode)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            import sqlite3

            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, text TEXT NOT NULL, finish TEXT NOT NULL,"
                " prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, provenance TEXT NOT NULL)"
                " WITHOUT ROWID"
            )
            self._connection = connection
        return self._connection

    def get(self, keys: Iterable[str]) -> dict[str, GeneratedText]:
        """The texts that are stored under these keys; keys without a text are left out."""
        wanted = list(dict.fromkeys(keys))
        if not wanted or not self._path.exists():
            return {}
        connection = self._open()
        found: dict[str, GeneratedText] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            question = (
                "SELECT key, text, finish, prompt_tokens, completion_tokens FROM texts WHERE key IN"
            )
            rows = connection.execute(f"{question} ({marks})", chunk)
            for key, text, finish, prompt_tokens, completion_tokens in rows:
                found[key] = GeneratedText(
                    text=text,
                    finish=finish,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=completion_tokens,
                )
        return found

    def put(self, texts: Mapping[str, GeneratedText], *, provenance: Mapping[str, Any]) -> None:
        """Store finished texts, in one transaction; a key that is already there keeps its first text."""
        origin = json.dumps(provenance, ensure_ascii=False, sort_keys=True)
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(
                "INSERT OR IGNORE INTO texts VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        key,
                        text.text,
                        text.finish,
                        text.prompt_tokens,
                        text.completion_tokens,
                        origin,
                    )
                    for key, text in texts.items()
                ],
            )
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def count(self) -> int:
        """How many texts are stored."""
        if not self._path.exists():
            return 0
        return int(self._open().execute("SELECT COUNT(*) FROM texts").fetchone()[0])

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
