"""The problems of ASDiv.xml, streamed, each with the line it begins at.

A document type is refused: it is what declares entities, and with them the files that blow up as they are read; the
release has none. Source of the format: README of github.com/chaochun/nlu-asdiv-dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.parsers import expat

from kpod.runner import StageError

_CHUNK_B = 1 << 16
# Elements by the names of the hub copy's columns.
_COLUMNS = {
    "Body": "body",
    "Question": "question",
    "Solution-Type": "solution_type",
    "Answer": "answer",
    "Formula": "formula",
}


def read_problems(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every `Problem` with its line and its elements, named as the hub copy names its columns.

    Raises:
        StageError: the file is missing, not well-formed, declares a document type, or holds no problem.
    """
    if not path.is_file():
        raise StageError(
            f"{path}: no such file\n  allowed: ASDiv.xml\n  check the path that the recipe gives"
        )
    problems = _Problems(path)
    num_problems = 0
    with path.open("rb") as file:
        is_last = False
        while not is_last:
            chunk = file.read(_CHUNK_B)
            is_last = not chunk
            for found in problems.feed(chunk, is_last=is_last):
                num_problems += 1
                yield found
    if not num_problems:
        raise StageError(
            f"{path}: got XML without a <Problem>\n  allowed: ASDiv.xml as it was published\n  check the path"
        )


class _Problems:
    """Collects the problems that expat comes upon."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done: list[tuple[int, dict[str, Any]]] = []
        self._row: dict[str, Any] | None = None
        self._line = 0
        self._column: str | None = None
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def feed(self, chunk: bytes, *, is_last: bool) -> list[tuple[int, dict[str, Any]]]:
        """The problems that end in this chunk."""
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise StageError(
                f"{self._path}:{error.lineno}: not XML: {expat.ErrorString(error.code)}\n"
                "  allowed: ASDiv.xml as it was published\n  the file may be cut: copy it again"
            ) from None
        done, self._done = self._done, []
        return done

    def _refuse(self, name: str, *_: object) -> None:
        raise StageError(
            f"{self._path}:{self._parser.CurrentLineNumber}: got a document type ({name}), which can declare entities\n"
            "  allowed: XML without <!DOCTYPE …>, as ASDiv.xml was published\n  take the line out"
        )

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "Problem":
            self._line = self._parser.CurrentLineNumber
            self._row = {"id": attributes.get("ID", "")}
        elif self._row is not None and name in _COLUMNS:
            self._column = _COLUMNS[name]
            self._row.setdefault(self._column, "")

    def _end(self, name: str) -> None:
        if name == "Problem" and self._row is not None:
            self._done.append((self._line, self._row))
            self._row = None
        elif name in _COLUMNS:
            self._column = None

    def _text(self, text: str) -> None:
        if self._row is not None and self._column is not None:
            self._row[self._column] += text
