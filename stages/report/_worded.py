"""Notes as people read them: their names in words, their numbers in the unit that the name ends with.

Stages name a number `peak_memory_gb`, `tokens_per_s` or `generated_frac` (STYLE 3); a page says "peak memory: 4.2 GB".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from kpod.stages.report._formats import count, duration, usd
from kpod.stages.report._notes import Note

_SPACE = "\N{NO-BREAK SPACE}"
# A dot between two digits is the point of a number: `quantiles_nats.0.25`.
_DOT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_UNITS: dict[str, Callable[[float], str]] = {
    "gb": lambda value: f"{count(value)}{_SPACE}GB",
    "b": lambda value: f"{count(round(value / 1e6, 3))}{_SPACE}MB",
    "nats": lambda value: f"{count(value)}{_SPACE}nats",
    "per_s": lambda value: f"{count(round(value, 1) if value < 100 else round(value))} a second",
    "frac": count,
    "usd": usd,
    "seconds": duration,
    "s": duration,
}
# Names that are a unit and nothing else.
_ALONE = {"seconds": "time", "s": "time", "usd": "paid", "frac": "share", "b": "size", "gb": "size"}
_WORDS = {"num": "number of"}


class Worded(NamedTuple):
    """A note in words."""

    name: str
    value: str


def worded(note: Note) -> Worded:
    """The note in words; a name that follows no rule of ours is left as it is, but for its underscores."""
    names, units = [], []
    for part in _DOT.split(note.name):
        name, unit = _name_and_unit(part)
        names.append(name)
        units.append(unit)
    unit = next((each for each in reversed(units) if each), "")
    return Worded(", ".join(name for name in names if name), _value(note.value, unit))


def _name_and_unit(part: str) -> tuple[str, str]:
    unit = next((each for each in _UNITS if part == each or part.endswith(f"_{each}")), "")
    own = part.removesuffix(unit).removesuffix("_") if unit else part
    if not own:
        return _ALONE.get(unit, unit), unit
    words = " ".join(_WORDS.get(word, word) for word in own.split("_"))
    return f"{words} (share)" if unit == "frac" else words, unit


def _value(value: str | float | bool | None, unit: str) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return _UNITS[unit](value) if unit else count(value)
