"""The record store: every generated text once, for teachers and evaluation alike, in one SQLite file of the store.

A text is named by what made it (prompt ids, model content, precision, decoding parameters, seed and sample index),
never by run, row or data set, so that a grown or reordered set of questions pays only for what is new (DESIGN 5).
Who is about to write a text claims its key, so that two runs that want the same text write it once. What a kill or a
power cut may cost is said in `shared_file`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner.record import Finish
from kpod.runner.shared_file import SharedFile, chunks

if TYPE_CHECKING:
    import sqlite3


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

    @property
    def is_refused(self) -> bool:
        """Whether the model declined: its content filter stopped it, or it ended without a word."""
        return _is_refused(self.finish, self.text)


def _is_refused(finish: str, text: str) -> bool:
    return finish == "content_filter" or (finish == "stop" and not text.strip())


def text_key(facts: Mapping[str, Any]) -> str:
    """The name of a text: sha256 over canonical JSON of everything that decides it."""
    canonical = json.dumps(facts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class TextStore:
    """Generated texts by key. Safe for many processes at once (SQLite in WAL mode)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file = SharedFile(path)

    def get(self, keys: Iterable[str], *, but_refused: bool = False) -> dict[str, GeneratedText]:
        """The texts that are stored under these keys; keys without a text are left out.

        Args:
            keys: in any order, repeats allowed.
            but_refused: leave refused texts out too, as if they had never been stored.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted or not self.file.is_there:
            return {}
        found: dict[str, GeneratedText] = {}
        for marks, group in chunks(wanted):
            columns = "key, text, finish, prompt_tokens, completion_tokens"
            rows = self.file.connection.execute(
                f"SELECT {columns} FROM texts WHERE key IN ({marks})",  # noqa: S608 - question marks
                group,
            )
            for key, text, finish, prompt_tokens, completion_tokens in rows:
                if not (but_refused and _is_refused(finish, text)):
                    found[key] = GeneratedText(
                        text=text, finish=finish,
                        prompt_tokens=prompt_tokens, completion_tokens=completion_tokens,
                    )  # fmt: skip
        return found

    def stored(self, keys: Iterable[str], *, but_refused: bool = False) -> set[str]:
        """Which of these keys have a text, without reading the texts."""
        wanted = list(dict.fromkeys(keys))
        if not wanted or not self.file.is_there:
            return set()
        return _stored(self.file.connection, wanted, but_refused=but_refused)

    def put(self, texts: Mapping[str, GeneratedText], *, provenance: Mapping[str, Any]) -> None:
        """Store finished texts and give back their claims, in one transaction.

        A key that is already there keeps its first text, unless that one was refused: then the new one replaces it.
        """
        with self.file.writing():
            insert_texts(self.file, texts, provenance=provenance)

    def claim(self, keys: Iterable[str], *, but_refused: bool = False) -> set[str]:
        """Of these keys, those that this handle may write now: without a text, and claimed by no other that lives.

        A claim lasts until its text is put, it is released, or the process ends, however it ends.

        Args:
            keys: in any order; those that this handle has claimed before are given again.
            but_refused: a refused text counts as none.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return set()
        with self.file.writing() as connection:
            owner = self.file.owner()
            stored = _stored(connection, wanted, but_refused=but_refused)
            free = [key for key in wanted if key not in stored]
            taken = self._taken(free)
            mine = [key for key in free if key not in taken]
            connection.executemany(
                "INSERT OR IGNORE INTO claims VALUES (?, ?)", ((key, owner) for key in mine)
            )
        return set(mine)

    def _taken(self, keys: list[str]) -> set[str]:
        """Which of these keys others claim that live; claims of the dead are gone afterwards."""
        claims: dict[str, str] = {}
        for marks, group in chunks(keys):
            claims.update(
                self.file.connection.execute(
                    f"SELECT key, owner FROM claims WHERE key IN ({marks})",  # noqa: S608 - question marks
                    group,
                )
            )
        owner = self.file.owner()
        living = {name for name in set(claims.values()) - {owner} if self.file.is_alive(name)}
        return {key for key, name in claims.items() if name in living}

    def release(self, keys: Iterable[str]) -> None:
        """Give claims back that this handle holds; others may claim these keys at once."""
        given = list(keys)
        if given and self.file.has_owner:
            with self.file.writing():
                _release(self.file, given)

    def count(self) -> int:
        """How many texts are stored."""
        if not self.file.is_there:
            return 0
        return int(self.file.connection.execute("SELECT COUNT(*) FROM texts").fetchone()[0])

    def close(self) -> None:
        """Give back all claims and close the file; the next use opens it again."""
        self.file.close()


def insert_texts(
    file: SharedFile, texts: Mapping[str, GeneratedText], *, provenance: Mapping[str, Any]
) -> None:
    """What `TextStore.put` does, inside a transaction that is open already (`SharedFile.writing`)."""
    origin = json.dumps(provenance, ensure_ascii=False, sort_keys=True)
    rows = [
        (key, text.text, text.finish, text.prompt_tokens, text.completion_tokens, origin)
        for key, text in texts.items()
    ]
    added = file.connection.executemany(
        "INSERT OR IGNORE INTO texts VALUES (?, ?, ?, ?, ?, ?)", rows
    )
    if added.rowcount < len(rows):
        for row in rows:
            _replace_refused(file.connection, row)
    if file.has_owner:
        _release(file, list(texts))


def _replace_refused(
    connection: sqlite3.Connection, row: tuple[str, str, str, int, int, str]
) -> None:
    """Put a new text in the place of one that was refused; every other one stays."""
    key, *rest = row
    there = connection.execute("SELECT finish, text FROM texts WHERE key = ?", (key,)).fetchone()
    if _is_refused(*there):
        connection.execute(
            "UPDATE texts SET text = ?, finish = ?, prompt_tokens = ?, completion_tokens = ?, provenance = ? WHERE key = ?",
            (*rest, key),
        )


def _stored(connection: sqlite3.Connection, keys: list[str], *, but_refused: bool) -> set[str]:
    found: set[str] = set()
    columns = "key, finish, text" if but_refused else "key"
    for marks, group in chunks(keys):
        rows = connection.execute(
            f"SELECT {columns} FROM texts WHERE key IN ({marks})",  # noqa: S608 - question marks
            group,
        )
        found.update(key for key, *text in rows if not (text and _is_refused(*text)))
    return found


def _release(file: SharedFile, keys: list[str]) -> None:
    owner = file.owner()
    file.connection.executemany(
        "DELETE FROM claims WHERE key = ? AND owner = ?", ((key, owner) for key in keys)
    )
