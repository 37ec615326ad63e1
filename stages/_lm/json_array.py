"""The elements of a JSON array, decoded one at a time, so that an array of any length streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

_CHUNK_CHARS = 1 << 20
_AFTER_ITEM = frozenset(", ]\t\r\n")


class Item(NamedTuple):
    """An element and the line at which it begins, counted from 1."""

    line: int
    value: Any


class JsonArrayError(Exception):
    """The text is not a JSON array.

    Args:
        line: where, counted from 1.
        reason: what stands there.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class JsonArray:
    """Reads an array from a text file, a chunk in memory at a time.

    Args:
        file: opened for reading text.
        chunk_chars: characters to read at once, >= 1.
    """

    def __init__(self, file: IO[str], *, chunk_chars: int = _CHUNK_CHARS) -> None:
        self.line = 1
        self._file = file
        self._chunk_chars = chunk_chars
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._start = 0

    def items(self) -> Iterator[Item]:
        """The elements in order.

        Raises:
            JsonArrayError: the text is not one whole JSON array.
        """
        self._expect("[")
        if self._peek() == "]":
            self._start += 1
        else:
            mark = ","
            while mark == ",":
                self._peek()
                line = self.line
                yield Item(line, self._decode())
                mark = self._expect(",]")
        if self._peek():
            raise JsonArrayError(self.line, f"{self._rest()} after the end of the array")

    def _decode(self) -> object:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._start)
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                self._advance(error.pos)
                raise JsonArrayError(self.line, error.msg) from None
            is_whole = self._buffer[end : end + 1] in _AFTER_ITEM
            if is_whole or not self._more():  # "1." may be the head of "1.5" in the next chunk
                self._advance(end)
                return value

    def _peek(self) -> str:
        """The next character that is not white space, or "" at the end of the file."""
        while True:
            end = self._start
            while end < len(self._buffer) and self._buffer[end].isspace():
                end += 1
            self._advance(end)
            if end < len(self._buffer):
                return self._buffer[end]
            if not self._more():
                return ""

    def _expect(self, marks: str) -> str:
        found = self._peek()
        if not found or found not in marks:
            got = self._rest() if found else "the file ends"
            raise JsonArrayError(self.line, f"{got} where {' or '.join(marks)} should stand")
        self._start += 1
        return found

    def _rest(self) -> str:
        return repr(self._buffer[self._start : self._start + 40])

    def _advance(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._start, end)
        self._start = end

    def _more(self) -> bool:
        """Read on, and at least as much as is held: a long element then costs no quadratic time."""
        rest = self._buffer[self._start :]
        chunk = self._file.read(max(self._chunk_chars, len(rest)))
        self._buffer, self._start = rest + chunk, 0
        return bool(chunk)
