"""The settings of a Config, read once from its annotations: what schema, help text and loader are all made from.

A Config is a frozen keyword-only dataclass; a setting is a truth value, number, text, choice (`Literal`), list
(`tuple[X, ...]`), mapping (`dict[str, X]`), another Config, one of these or None, or one of several scalars.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal

from kpod.runner.fields import Added, Doc, Ge, Gt, Le, LocalPath, Lt, MinItems, Pattern, Volatile

ShapeKind = Literal["bool", "int", "float", "str", "choice", "list", "map", "config", "union"]
Limit = Ge | Gt | Le | Lt

_SCALARS: dict[object, ShapeKind] = {bool: "bool", int: "int", float: "float", str: "str"}
_LIMITS = (Ge, Gt, Le, Lt)
_MARKS = (*_LIMITS, Added, Doc, LocalPath, MinItems, Pattern, Volatile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The values that a setting takes.

    Args:
        kind: what sort of value.
        is_optional: None is a value too.
        parts: the items' shape of a list or map; the alternatives of a union.
        choices: the values of a choice.
        config: the class of a config.
        limits: bounds of a number.
        pattern: what a text matches.
        min_items: least number of items of a list or map.
        is_local_path: the text is a path on this machine.
    """

    kind: ShapeKind
    is_optional: bool = False
    parts: tuple[Shape, ...] = ()
    choices: tuple[Any, ...] = ()
    config: type | None = None
    limits: tuple[Limit, ...] = ()
    pattern: Pattern | None = None
    min_items: int = 0
    is_local_path: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingShape:
    """One setting of a Config: its name, values, meaning and default (in JSON form).

    Args:
        is_volatile: it cannot change the output.
        is_added: it came later; at its default it stays out of the key.
    """

    name: str
    shape: Shape
    doc: str
    is_required: bool
    default: Any
    is_volatile: bool
    is_added: bool


@cache
def setting_shapes(config_class: type) -> tuple[SettingShape, ...]:
    """The settings of a Config class, in the order of the file.

    Raises:
        TypeError: the class is no Config, or a setting has a type or a mark that recipes cannot express.
    """
    if not is_dataclass(config_class):
        raise TypeError(f"{config_class.__qualname__} is not a dataclass")
    hints = typing.get_type_hints(config_class, include_extras=True)
    settings = []
    for field in fields(config_class):
        is_required = field.default is MISSING and field.default_factory is MISSING
        shape, marks = _read(hints[field.name], f"{config_class.__qualname__}.{field.name}")
        settings.append(
            SettingShape(
                name=field.name,
                shape=shape,
                doc=next((mark.text for mark in marks if isinstance(mark, Doc)), ""),
                is_required=is_required,
                default=None if is_required else _default(field),
                is_volatile=any(isinstance(mark, Volatile) for mark in marks),
                is_added=any(isinstance(mark, Added) for mark in marks),
            )
        )
    return tuple(settings)


def _default(field: Field[Any]) -> Any:
    """The default of a field that has one, in JSON form."""
    if field.default_factory is not MISSING:
        return json_value(field.default_factory())
    return json_value(field.default)


def json_value(value: Any) -> Any:
    """A setting's value as JSON data: configs and mappings as objects, tuples as lists."""
    if is_dataclass(value):
        return {field.name: json_value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [json_value(item) for item in value]
    return value


def _read(hint: Any, owner: str) -> tuple[Shape, tuple[object, ...]]:
    """The shape that a type stands for, and the marks that stand beside it."""
    if typing.get_origin(hint) is typing.Annotated:
        inner, *marks = typing.get_args(hint)
        shape, inner_marks = _read(inner, owner)
        return _marked(shape, tuple(marks), owner), (*inner_marks, *marks)
    if hint in _SCALARS:
        return Shape(kind=_SCALARS[hint]), ()
    reader = _READERS.get(typing.get_origin(hint))
    if reader is not None:
        return reader(hint, owner), ()
    if is_dataclass(hint) and isinstance(hint, type):
        setting_shapes(hint)
        return Shape(kind="config", config=hint), ()
    raise TypeError(
        f"{owner}: a setting cannot be of type {hint}; allowed: bool, int, float, str, Literal, tuple[X, ...],"
        " dict[str, X], a dataclass of these, and X | None"
    )


def _read_choice(hint: Any, _owner: str) -> Shape:
    return Shape(kind="choice", choices=typing.get_args(hint))


def _read_list(hint: Any, owner: str) -> Shape:
    item, *rest = typing.get_args(hint)
    if rest != [...]:
        raise TypeError(f"{owner}: a list of settings is written tuple[X, ...], not {hint}")
    return Shape(kind="list", parts=(_read(item, owner)[0],))


def _read_map(hint: Any, owner: str) -> Shape:
    key, item = typing.get_args(hint)
    if key is not str:
        raise TypeError(f"{owner}: the keys of a mapping are text, not {key}")
    return Shape(kind="map", parts=(_read(item, owner)[0],))


def _read_union(hint: Any, owner: str) -> Shape:
    alternatives = typing.get_args(hint)
    parts = tuple(_read(part, owner)[0] for part in alternatives if part is not type(None))
    is_optional = len(parts) < len(alternatives)
    if len(parts) == 1:
        return replace(parts[0], is_optional=is_optional)
    if any(part.kind not in {*_SCALARS.values(), "choice"} for part in parts):
        raise TypeError(f"{owner}: only scalars can be alternatives of each other, not {hint}")
    return Shape(kind="union", parts=parts, is_optional=is_optional)


_READERS: dict[Any, Callable[[Any, str], Shape]] = {
    Literal: _read_choice,
    tuple: _read_list,
    dict: _read_map,
    Mapping: _read_map,
    typing.Union: _read_union,
    types.UnionType: _read_union,
}


def _marked(shape: Shape, marks: tuple[object, ...], owner: str) -> Shape:
    """The shape with marks applied to it, or to the alternatives or items that they fit."""
    for mark in marks:
        if isinstance(mark, type) and mark in _MARKS:
            raise TypeError(f"{owner}: write {mark.__name__}(…), not {mark.__name__}")
        if isinstance(mark, (*_LIMITS, Pattern, MinItems, LocalPath)):
            marked = _with_mark(shape, mark)
            if marked is None:
                raise TypeError(
                    f"{owner}: {mark} says nothing about a setting of kind {shape.kind}"
                )
            shape = marked
    return shape


def _with_mark(shape: Shape, mark: object) -> Shape | None:
    """The shape under one more mark; None where the mark does not fit."""
    if isinstance(mark, _LIMITS) and shape.kind in {"int", "float"}:
        return replace(shape, limits=(*shape.limits, mark))
    if isinstance(mark, Pattern) and shape.kind == "str":
        return replace(shape, pattern=mark)
    if isinstance(mark, MinItems) and shape.kind in {"list", "map"}:
        return replace(shape, min_items=mark.count)
    if isinstance(mark, LocalPath) and shape.kind == "str":
        return replace(shape, is_local_path=True)
    if shape.kind == "union" or (isinstance(mark, LocalPath) and shape.kind in {"list", "map"}):
        parts = [_with_mark(part, mark) for part in shape.parts]
        if any(part is not None for part in parts):
            both = zip(shape.parts, parts, strict=True)
            return replace(shape, parts=tuple(old if new is None else new for old, new in both))
    return None
