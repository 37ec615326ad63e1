"""JSON Schema (draft 2020-12) and help, made from Config dataclasses, which are the one description of a setting.

The committed schemas, the validation of recipes and the completion of editors all read what is made here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kpod.runner.fields import Ge, Gt, Le, Lt
from kpod.runner.shape import SettingShape, Shape, setting_shapes
from kpod.runner.validation import validate

__all__ = ["Setting", "config_schema", "describe", "render_schema", "validate"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_JSON_TYPES = {
    "bool": "boolean", "int": "integer", "float": "number", "str": "string",
    "list": "array", "map": "object", "config": "object",
}  # fmt: skip
_BOUNDS = {Ge: "minimum", Gt: "exclusiveMinimum", Le: "maximum", Lt: "exclusiveMaximum"}
_SIGNS = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<"}
_WORDS = {
    "bool": "true or false",
    "int": "integer",
    "float": "number",
    "str": "text",
    "config": "settings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One line of help.

    Args:
        name: of the setting; dotted (`lora.rank`) inside another.
        type: integer, number, text, true or false, list of …, mapping of names to …, choice, settings.
        default: as YAML in one line, or "" where the setting is required.
        is_required: whether a recipe must give it.
        doc: what it means.
        allowed: choices or range, or "".
    """

    name: str
    type: str
    default: str
    is_required: bool
    doc: str
    allowed: str


def config_schema(config_class: type, *, title: str, description: str) -> dict[str, Any]:
    """The JSON Schema of a Config.

    Args:
        config_class: a dataclass as `shape.py` describes them.
        title: what the schema describes, for editors.
        description: one sentence, for editors.

    Raises:
        TypeError: a setting has a type that recipes cannot express.
    """
    head = {"$schema": DIALECT, "title": title, "description": description}
    return head | _object_schema(config_class)


def render_schema(schema: dict[str, Any]) -> str:
    """The text that is committed: two spaces, sorted keys, a newline at the end."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def describe(config_class: type) -> list[Setting]:
    """The settings of a Config for `kpod stages NAME` and for tables; those inside another follow it."""
    lines = []
    for setting in setting_shapes(config_class):
        shape = setting.shape
        lines.append(
            Setting(
                name=setting.name,
                type=_type_text(shape) + (" or null" if shape.is_optional else ""),
                default="" if setting.is_required else _inline(setting.default),
                is_required=setting.is_required,
                doc=setting.doc,
                allowed=_allowed_text(shape),
            )
        )
        if shape.config is not None:
            lines += [_inside(setting.name, line) for line in describe(shape.config)]
    return lines


def _object_schema(config_class: type) -> dict[str, Any]:
    settings = setting_shapes(config_class)
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {setting.name: _setting_schema(setting) for setting in settings},
    }
    required = [setting.name for setting in settings if setting.is_required]
    return schema | ({"required": required} if required else {})


def _setting_schema(setting: SettingShape) -> dict[str, Any]:
    schema = _shape_schema(setting.shape)
    if setting.doc:
        schema["description"] = setting.doc
    if not setting.is_required:
        schema["default"] = setting.default
    if setting.is_volatile:
        schema["x-volatile"] = True
    return schema


def _shape_schema(shape: Shape) -> dict[str, Any]:
    """The schema of one shape; None as a further type, so that messages and editors need no alternatives."""
    if shape.kind == "choice":
        return {"enum": [*shape.choices, *([None] if shape.is_optional else [])]}
    if shape.kind == "union":
        none = [{"type": "null"}] if shape.is_optional else []
        return {"anyOf": [_shape_schema(part) for part in shape.parts] + none}
    schema = _object_schema(shape.config) if shape.config is not None else {}
    name = _JSON_TYPES[shape.kind]
    schema["type"] = [name, "null"] if shape.is_optional else name
    for limit in shape.limits:
        schema[_BOUNDS[type(limit)]] = limit.bound
    if shape.pattern is not None:
        schema |= {"pattern": shape.pattern.regex, "x-pattern-says": shape.pattern.says}
    if shape.is_local_path:
        schema["x-local-path"] = True
    return schema | _items_schema(shape)


def _items_schema(shape: Shape) -> dict[str, Any]:
    """What the schema of a list or map says about its items."""
    if shape.kind not in {"list", "map"}:
        return {}
    is_list = shape.kind == "list"
    schema: dict[str, Any] = {
        "items" if is_list else "additionalProperties": _shape_schema(shape.parts[0])
    }
    if shape.min_items:
        schema["minItems" if is_list else "minProperties"] = shape.min_items
    return schema


def _inside(name: str, line: Setting) -> Setting:
    return Setting(
        name=f"{name}.{line.name}",
        type=line.type,
        default=line.default,
        is_required=line.is_required,
        doc=line.doc,
        allowed=line.allowed,
    )


def _type_text(shape: Shape) -> str:
    """What kind of value it is, in words."""
    if shape.kind == "choice":
        return "choice"
    if shape.kind == "union":
        return " or ".join(_type_text(part) for part in shape.parts)
    if shape.kind == "list":
        return f"list of {_type_text(shape.parts[0])}"
    if shape.kind == "map":
        return f"mapping of names to {_type_text(shape.parts[0])}"
    return _WORDS[shape.kind]


def _allowed_text(shape: Shape) -> str:
    """The choices, the range, or what a text looks like."""
    if shape.kind == "choice":
        return ", ".join(_inline(choice) for choice in shape.choices)
    words = [f"{_SIGNS[type(limit)]} {limit.bound}" for limit in shape.limits]
    if shape.pattern is not None:
        words.append(shape.pattern.says)
    if shape.min_items:
        words.append(f"at least {shape.min_items}")
    inner = [_allowed_text(part) for part in shape.parts]
    joint = "; " if shape.kind == "union" else " "
    return ", ".join([*words, *([joint.join(filter(None, inner))] if any(inner) else [])])


def _inline(value: Any) -> str:
    """A value as it stands in a recipe, in one line."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
