"""What a stage says about its settings, beside their type: `Annotated[int, Doc("…"), Ge(1)]`.

The Config dataclass is the one description of a setting; JSON Schema, help text and cache key are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doc:
    """What a setting means, with its unit and the source of its default."""

    text: str


@dataclass(frozen=True, slots=True)
class Ge:
    """Greater than or equal to."""

    bound: float


@dataclass(frozen=True, slots=True)
class Gt:
    """Greater than."""

    bound: float


@dataclass(frozen=True, slots=True)
class Le:
    """Less than or equal to."""

    bound: float


@dataclass(frozen=True, slots=True)
class Lt:
    """Less than."""

    bound: float


@dataclass(frozen=True, slots=True)
class MinItems:
    """A list or mapping holds at least this many items."""

    count: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text matches this regular expression somewhere; `says` tells a person what that means."""

    regex: str
    says: str


@dataclass(frozen=True, slots=True)
class Volatile:
    """The setting cannot change the output, so it stays out of the key (a test shows it)."""


@dataclass(frozen=True, slots=True)
class Added:
    """The setting came after results were stored without it: at its default, which is what was done before, it stays out of the key."""


@dataclass(frozen=True, slots=True)
class LocalPath:
    """The text is a path; one that is not absolute is taken from the folder of the file that wrote it.

    On the command line that is the working folder. What stands in the key is decided by `Stage.sources`.
    """
