"""Settings from a recipe as the Config object that a stage is given, and back.

This is the second reader of a recipe's values beside JSON Schema; both accept exactly the same (a property test holds
it). It runs each time, so it is quick and imports nothing; what it refuses, the schema puts into words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kpod.runner.canonical import canonical_json
from kpod.runner.errors import Position, Problem, RecipeError, SettingError
from kpod.runner.fields import Ge, Gt, Le
from kpod.runner.node import Node, dotted, find
from kpod.runner.shape import Limit, SettingShape, Shape, json_value, setting_shapes
from kpod.runner.validation import find_problems, is_integer, is_number

Trail = tuple[str | int, ...]


class _MisfitError(Exception):
    """The data does not fit; the schema knows why."""


class _UnsettledError(Exception):
    """The settings do not go together."""

    def __init__(self, trail: Trail, error: SettingError) -> None:
        super().__init__(trail, error)
        self.trail = trail
        self.error = error


def build_config(
    config_class: type, data: dict[str, Any], *, node: Node | None, path: str, subject: str = ""
) -> Any:
    """The Config that these settings make.

    Args:
        config_class: a frozen dataclass as `shape.py` describes them.
        data: plain data, as JSON has it: lists, 3.0 for an integer, an integer for a float.
        node: the same with positions, where they are known.
        path: the dotted name of the settings (`stages.student.with`).
        subject: whose settings these are (`student.causal_lm`); by default the path.

    Returns:
        An instance of `config_class`: lists as tuples, numbers of the field's type, defaults filled in.

    Raises:
        RecipeError: the data does not fit the schema, or `__post_init__` raised a SettingError.
    """
    try:
        return _build(config_class, data, ())
    except _UnsettledError as unsettled:
        raise RecipeError([_setting_problem(unsettled, node, path)]) from None
    except _MisfitError:
        from kpod.runner.schema import config_schema

        schema = config_schema(config_class, title=subject, description="")
        problems = find_problems(data, schema, node=node, path=path, subject=subject or path)
        assert problems, f"{config_class.__qualname__} and its schema disagree about {data}"
        raise RecipeError(problems) from None


def unsettled(error: SettingError, node: Node | None, path: str) -> Problem:
    """What a stage's `check` refused, at the setting that it names; arguments as `build_config` has them."""
    return _setting_problem(_UnsettledError((), error), node, path)


def unfit_default(config_class: type) -> str:
    """A setting whose default is no value that a recipe could write, in words; "" where there is none.

    Raises:
        TypeError: as `setting_shapes` does.
    """
    for setting in setting_shapes(config_class):
        if not setting.is_required:
            try:
                _value(setting.shape, setting.default, ())
            except (_MisfitError, _UnsettledError):
                return f"{setting.name}: its default {setting.default!r} is none that a recipe could write"
    return ""


def config_to_json(config: Any) -> dict[str, Any]:
    """All settings of a Config as JSON data, defaults too; `build_config` makes an equal Config of it."""
    data = json_value(config)
    assert isinstance(data, dict)
    return data


def keyed_settings(config: Any) -> dict[str, Any]:
    """The settings of a Config that name its result, as JSON data: no volatile one, and no added one at its default."""
    return _keyed(type(config), config_to_json(config))


def _keyed(config_class: type, data: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for setting in setting_shapes(config_class):
        value = _keyed_value(setting.shape, data[setting.name])
        is_silent = setting.is_added and canonical_json(value) == canonical_json(
            _keyed_value(setting.shape, setting.default)
        )
        if not (setting.is_volatile or is_silent):
            kept[setting.name] = value
    return kept


def _keyed_value(shape: Shape, value: Any) -> Any:
    if value is None:
        return None
    if shape.config is not None:
        return _keyed(shape.config, value)
    if shape.kind == "list":
        return [_keyed_value(shape.parts[0], item) for item in value]
    if shape.kind == "map":
        return {name: _keyed_value(shape.parts[0], item) for name, item in value.items()}
    return value


def local_path_fields(config_class: type) -> tuple[str, ...]:
    """The dotted names of the texts that are paths on this machine; `*` stands for any item (`files.*`)."""
    return tuple(
        name + inner
        for name, setting in _all_settings(config_class)
        for inner in _path_names(setting.shape)
    )


def _all_settings(config_class: type) -> Iterator[tuple[str, SettingShape]]:
    """All settings by dotted name, those inside others too."""
    for setting in setting_shapes(config_class):
        yield setting.name, setting
        shape, name = setting.shape, setting.name
        while shape.kind in {"list", "map"}:
            shape, name = shape.parts[0], f"{name}.*"
        if shape.config is not None:
            yield from ((f"{name}.{inner}", below) for inner, below in _all_settings(shape.config))


def _path_names(shape: Shape) -> Iterator[str]:
    """What stands behind a setting's name for each path in it."""
    if shape.is_local_path:
        yield ""
    for part in shape.parts:
        step = ".*" if shape.kind in {"list", "map"} else ""
        yield from (step + name for name in _path_names(part))


def _build(config_class: type, data: Any, trail: Trail) -> Any:
    """An instance of a Config class."""
    if not isinstance(data, dict):
        raise _MisfitError
    settings = setting_shapes(config_class)
    values = {}
    for setting in settings:
        if setting.name in data:
            name = setting.name
            values[name] = _value(setting.shape, data[name], (*trail, name))
        elif setting.is_required:
            raise _MisfitError
    if len(values) < len(data):
        raise _MisfitError
    try:
        return config_class(**values)
    except SettingError as error:
        raise _UnsettledError(trail, error) from None


def _value(shape: Shape, data: Any, trail: Trail) -> Any:
    """The value of one setting, in the field's type."""
    if data is None:
        if shape.is_optional:
            return None
        raise _MisfitError
    return _READERS[shape.kind](shape, data, trail)


def _truth(_shape: Shape, data: Any, _trail: Trail) -> bool:
    if not isinstance(data, bool):
        raise _MisfitError
    return data


def _integer(shape: Shape, data: Any, _trail: Trail) -> int:
    if not is_integer(data):
        raise _MisfitError
    _check_limits(shape.limits, data)
    return int(data)


def _number(shape: Shape, data: Any, _trail: Trail) -> float:
    if not is_number(data):
        raise _MisfitError
    _check_limits(shape.limits, data)
    return float(data)


def _text(shape: Shape, data: Any, _trail: Trail) -> str:
    if not isinstance(data, str):
        raise _MisfitError
    if shape.pattern is not None and re.search(shape.pattern.regex, data) is None:
        raise _MisfitError
    return data


def _choice(shape: Shape, data: Any, _trail: Trail) -> Any:
    for choice in shape.choices:
        if choice == data and isinstance(choice, bool) == isinstance(data, bool):
            return choice
    raise _MisfitError


def _list(shape: Shape, data: Any, trail: Trail) -> tuple[Any, ...]:
    if not isinstance(data, list) or len(data) < shape.min_items:
        raise _MisfitError
    return tuple(_value(shape.parts[0], item, (*trail, index)) for index, item in enumerate(data))


def _map(shape: Shape, data: Any, trail: Trail) -> dict[str, Any]:
    if not isinstance(data, dict) or len(data) < shape.min_items:
        raise _MisfitError
    return {key: _value(shape.parts[0], item, (*trail, key)) for key, item in data.items()}


def _config(shape: Shape, data: Any, trail: Trail) -> Any:
    assert shape.config is not None
    return _build(shape.config, data, trail)


def _alternative(shape: Shape, data: Any, trail: Trail) -> Any:
    """The first alternative that takes the value."""
    for part in shape.parts:
        try:
            return _value(part, data, trail)
        except _MisfitError:
            continue
    raise _MisfitError


_READERS: dict[str, Callable[[Shape, Any, Trail], Any]] = {
    "bool": _truth,
    "int": _integer,
    "float": _number,
    "str": _text,
    "choice": _choice,
    "list": _list,
    "map": _map,
    "config": _config,
    "union": _alternative,
}


def _check_limits(limits: tuple[Limit, ...], value: float) -> None:
    """Raise _MisfitError where a number lies outside its bounds."""
    for limit in limits:
        bound = limit.bound
        if isinstance(limit, Ge | Gt):
            is_inside = value >= bound if isinstance(limit, Ge) else value > bound
        else:
            is_inside = value <= bound if isinstance(limit, Le) else value < bound
        if not is_inside:
            raise _MisfitError


def _setting_problem(unsettled: _UnsettledError, node: Node | None, path: str) -> Problem:
    """The problem at the setting that the error names, else at the settings that lack it."""
    error = unsettled.error
    parts: list[str | int] = [*unsettled.trail, *error.field.split(".")]
    name = dotted(parts)
    return Problem(
        message=f"{error.field}: {error.message}",
        where=_nearest_position(node, parts),
        path=f"{path}.{name}" if path else name,
        hint=error.hint,
    )


def _nearest_position(node: Node | None, parts: list[str | int]) -> Position | None:
    """Where a value stands, or the nearest one around it."""
    if node is None:
        return None
    for length in range(len(parts), 0, -1):
        found = find(node, parts[:length])
        if found is not None:
            return found.position
    return node.position
