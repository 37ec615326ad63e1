"""What a YAML parser says about broken text, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import yaml.reader

from kpod.runner.errors import Position, Problem

Place = Callable[[int, int], Position]
"""The position of a line and a column, both counted from 0."""

_NOT_TEXT = yaml.reader.Reader.NON_PRINTABLE
"""Compiled by PyYAML already; compiling our own took 6 ms of each start."""


class _Meaning(NamedTuple):
    """A parser's phrase, ours for it, what to do, and whether the start of the construct is the better place."""

    phrase: str
    message: str
    hint: str = ""
    points_at_start: bool = False


_MEANINGS = (
    _Meaning(
        "mapping values are not allowed",
        "a ':' stands where no key can be",
        "text that holds ': ' needs quotes; else look at the indentation of this line and the one above",
    ),
    _Meaning(
        "block sequence entries are not allowed",
        "a '- ' stands where no list can begin",
        "begin the list on a line of its own, or write [a, b]",
    ),
    _Meaning("expected ',' or ']'", "this list is not closed, or a ',' is missing in it", "", True),
    _Meaning("expected ',' or '}'", "this mapping is not closed, or a ',' is missing in it", "", True),
    _Meaning("unexpected end of stream", "this quote is never closed", "", True),
    _Meaning("unexpected document separator", "this quote is never closed", "", True),
    _Meaning(
        "unknown escape character",
        "an unknown escape stands in a text in double quotes",
        "in single quotes a backslash is a backslash",
    ),
    _Meaning(
        "expected ':'",
        "a line is neither 'key: value' nor part of the text above it",
        "write a space after the ':' of a key, and put text of several lines after '|'",
        True,
    ),
    _Meaning(
        "expected '-' indicator",
        "a line ends this list without standing in line with a key above it",
        "look at the indentation",
    ),
    _Meaning("expected key", "this does not fit what stands above it", "look at the indentation and the brackets"),
    _Meaning("block end", "this does not fit what stands above it", "look at the indentation and the brackets"),
    _Meaning("document start", "something follows after the end of the value"),
    _Meaning("undefined tag handle", "tags are not allowed", "leave the word with '!' out"),
    _Meaning("comment or line break", "something stands behind '|' or '>'", "begin the text on the next line"),
)  # fmt: skip


def unprintable(text: str, *, place: Place) -> Problem | None:
    """The problem with the first character that no text file holds (NUL, control characters); None without one."""
    found = _NOT_TEXT.search(text)
    if found is None:
        return None
    before = text[: found.start()]
    line = before.count("\n")
    column = len(before) - (before.rfind("\n") + 1)
    name = (
        "a NUL byte"
        if found.group() == "\0"
        else f"the control character U+{ord(found.group()):04X}"
    )
    return Problem(message=f"this is not a text file: it holds {name}", where=place(line, column))


def explain_syntax(error: yaml.YAMLError, text: str, *, place: Place) -> Problem:
    """What is wrong with the text, and where."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Problem(message=f"this is not YAML: {error}", where=place(0, 0))
    phrase = error.problem or ""
    mark = error.problem_mark
    if "cannot start any token" in phrase:
        return _bad_start(text, mark.line, mark.column, place=place)
    for meaning in _MEANINGS:
        if meaning.phrase in phrase:
            if meaning.points_at_start and error.context_mark is not None:
                mark = error.context_mark
            where = place(mark.line, mark.column)
            return Problem(message=meaning.message, where=where, hint=meaning.hint)
    said = " ".join(part for part in (error.context, phrase) if part)
    return Problem(message=f"this is not YAML: {said}", where=place(mark.line, mark.column))


def _bad_start(text: str, line: int, column: int, *, place: Place) -> Problem:
    """A character that begins nothing in YAML: a tab in the indentation, or one of @ ` %."""
    lines = text.split("\n")
    rest = lines[line][column:] if line < len(lines) else ""
    where = place(line, column)
    if not rest or rest[0] == "\t":
        return Problem(
            message="a tab stands here, where YAML takes only spaces",
            where=where,
            hint="indent with spaces",
        )
    return Problem(
        message=f"a value cannot begin with '{rest[0]}' unless it is quoted",
        where=where,
        hint="put it in quotes",
    )
