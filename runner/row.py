"""What the fields of a record class hold: read from its annotations once, used for every row."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from functools import cache
from typing import ClassVar, Literal


@cache
def tuple_fields(record: type) -> tuple[tuple[str, bool], ...]:
    """Names of the fields that hold tuples, and whether their items are tuples too."""
    hints = typing.get_type_hints(record)
    return tuple(
        (name, "tuple" in str(hints[name]).partition("[")[2])
        for name in (field.name for field in fields(record))
        if "tuple" in str(hints[name])
    )


@cache
def _plain_fields(record: type) -> tuple[tuple[str, frozenset[type], frozenset[str] | None], ...]:
    """Fields of plain types: their name, the types they take, and the words they take where those are listed."""
    plain: list[tuple[str, frozenset[type], frozenset[str] | None]] = []
    for name, hint in typing.get_type_hints(record).items():
        is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
        options = typing.get_args(hint) if is_union else (hint,)
        words = [
            word
            for option in options
            for word in typing.get_args(option)
            if typing.get_origin(option) is Literal
        ]
        bases = {
            str if typing.get_origin(option) is Literal else typing.get_origin(option) or option
            for option in options
        }
        if float in bases:
            bases.add(int)
        if typing.get_origin(hint) is not ClassVar:
            plain.append((name, frozenset(bases), frozenset(words) or None))
    return tuple(plain)


def check_fields(record: object) -> None:
    """Refuse a record whose fields are not what its class says (a number of another library, a text for an int).

    Raises:
        TypeError: with the field, what it holds, and what it takes.
    """
    cls: type = type(record)
    for name, bases, words in _plain_fields(cls):
        value = getattr(record, name)
        is_word = words is None or value in words or value is None
        if type(value) not in bases or not is_word:
            takes = ", ".join(sorted(words or {base.__name__ for base in bases}))
            raise TypeError(
                f"{type(record).__name__}.{name} is {value!r} ({type(value).__name__}); it takes: {takes}"
            )
