"""Figures by epoch that a stage noted, whatever it calls them: one number an epoch, or several with names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kpod.stages.report._notes import number

_QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
# More than these in one chart cannot be told apart.
_MOST_LINES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One figure by epoch, from epoch 1; None where an epoch has none."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Curves of one note.

    Args:
        name: of the note, in words.
        curves: at least one; its name is "" where it is alone.
    """

    name: str
    curves: tuple[Curve, ...]


def read_curves(notes: Mapping[str, Any]) -> tuple[Curves, ...]:
    """Every note that is a list over epochs: of numbers, of lists of numbers, or of objects with numbers."""
    found = (_curves(name, value) for name, value in notes.items() if isinstance(value, list))
    return tuple(
        Curves(name=name.replace("_", " "), curves=curves) for name, curves in found if curves
    )


def _curves(name: str, rows: Sequence[Any]) -> tuple[str, tuple[Curve, ...]]:
    columns: dict[str, list[float | None]] = {}
    for epoch, row in enumerate(rows):
        for label, value in _labelled(name, row):
            columns.setdefault(label, [None] * len(rows))[epoch] = value
    known = [
        Curve(name=label, values=tuple(values))
        for label, values in columns.items()
        if any(value is not None for value in values)
    ]
    return name, tuple(known[:_MOST_LINES])


def _labelled(name: str, row: Any) -> Iterator[tuple[str, float | None]]:
    if isinstance(row, Mapping):
        yield from ((str(key), number(row, key)) for key in row if key != "epoch")
    elif isinstance(row, list | tuple):
        labels = _QUARTERS if "quarter" in name and len(row) == 4 else None
        for place, value in enumerate(row):
            yield labels[place] if labels else str(place + 1), number({"it": value}, "it")
    elif row is None or isinstance(row, int | float):
        yield "", number({"it": row}, "it")
