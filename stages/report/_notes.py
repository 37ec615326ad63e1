"""What stages noted beside their outputs, as a report can print it: any stage's, known or not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kpod.stages.report._formats import count, plural

# A note is a fact, not a file.
_MOST_CHARACTERS = 160


class Note(NamedTuple):
    """One fact: a dotted name, and a number, a text or a short list in words."""

    name: str
    value: str | float | int | bool | None


def flat_notes(notes: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> tuple[Note, ...]:
    """All notes, nested ones with dotted names, long values cut."""
    return tuple(_flat({name: notes[name] for name in notes if name not in without}, ""))


def _flat(value: Any, name: str) -> Iterator[Note]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, bool) or value is None:
        yield Note(name, value)
    elif isinstance(value, int | float):
        yield Note(name, value if math.isfinite(value) else str(value))
    else:
        yield Note(name, _cut(_text(value)))


def _text(value: Any) -> str:
    """A list in words: numbers as they are printed elsewhere, of objects only how many and of what."""
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, Mapping) for item in value):
            names = dict.fromkeys(str(name).replace("_", " ") for item in value for name in item)
            return f"{plural(len(value), 'row')} with {', '.join(names)}"
        return ", ".join(map(_item, value)) or "none"
    return str(value) if value != {} else "none"


def _item(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_item, value))}]"
    if value is None:
        return "none"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return count(value) if is_number and math.isfinite(value) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def number(notes: Mapping[str, Any], name: str) -> float | None:
    """A note that is a finite number; None where it is missing or something else."""
    value = notes.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None
