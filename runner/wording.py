"""Values and JSON Schemas in the words of our messages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPE_WORDS = {
    "integer": "an integer", "number": "a number", "string": "text", "boolean": "true or false",
    "array": "a list", "object": "a mapping", "null": "null",
}  # fmt: skip
_MAX_SHOWN = 60


def shown(value: object) -> str:
    """A value as a message names it: short, and text told from numbers."""
    if isinstance(value, str):
        text = value if len(value) <= _MAX_SHOWN else value[: _MAX_SHOWN - 1] + "…"
        return f"'{text}' (text)"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    return bare(value)


def bare(value: object) -> str:
    """A scalar as YAML writes it."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    text = str(value)
    if isinstance(value, float) and not math.isfinite(value):
        text = ".nan" if math.isnan(value) else text.replace("inf", ".inf")
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def type_words(types: str | Iterable[str]) -> str:
    """JSON Schema's names of types, as what a value must be."""
    names = [types] if isinstance(types, str) else list(types)
    return " or ".join(_TYPE_WORDS[name] for name in names)


def alternative_words(schema: dict[str, Any]) -> str:
    """What one of several alternatives takes."""
    if "enum" in schema:
        return " or ".join(bare(choice) for choice in schema["enum"])
    words = type_words(schema["type"]) if "type" in schema else "something else"
    return f"{words} {range_words(schema, least=1)}".strip()


def range_words(schema: dict[str, Any], *, least: int = 2) -> str:
    """The bounds of a number where the schema has at least so many."""
    words = [f"{sign} {schema[rule]}" for rule, sign in BOUNDS.items() if rule in schema]
    return " and ".join(words) if len(words) >= least else ""


def says(schema: dict[str, Any]) -> str:
    """What a pattern means, in words where the schema has them."""
    return str(schema.get("x-pattern-says") or f"text that matches {schema.get('pattern', '')}")


# Not after what is shortened within a sentence.
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!App)(?<!Sec)(?<!Eqs)(?<!Eq)\. ")


def first_sentence(schema: dict[str, Any]) -> str:
    """What a schema describes, in one sentence without its point."""
    text = str(schema.get("description", ""))
    return _SENTENCE_END.split(text, maxsplit=1)[0].removesuffix(".")
