"""What an unquoted YAML scalar means under the core schema of YAML 1.2.

YAML 1.1, which most Python readers speak, turns `no` into false, `1e-5` into text and `012` into ten; here they are
text, a number and twelve. Source: YAML 1.2.2, section 10.3.2.
"""

from __future__ import annotations

import re

Value = str | int | float | bool | None

MAX_DIGITS = 300
"""An integer has at most this many digits: the largest float has 309, and Python itself prints no more than 4300."""

_WORDS: dict[str, Value] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
    ".inf": float("inf"), ".Inf": float("inf"), ".INF": float("inf"),
    "+.inf": float("inf"), "+.Inf": float("inf"), "+.INF": float("inf"),
    "-.inf": float("-inf"), "-.Inf": float("-inf"), "-.INF": float("-inf"),
}  # fmt: skip
_DECIMAL = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)


def scalar_value(text: str) -> Value:
    """What unquoted text stands for.

    Raises:
        ValueError: an integer of more than `MAX_DIGITS` digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    for pattern, base in ((_DECIMAL, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            if len(text) > MAX_DIGITS:
                raise ValueError(f"an integer of {len(text)} digits")
            return int(text if base == 10 else text[2:], base)
    return float(text) if _FLOAT.fullmatch(text) else text


def needs_quotes(text: str) -> bool:
    """Whether this text, written without quotes, would be read as something that is not text."""
    try:
        return not isinstance(scalar_value(text), str)
    except ValueError:
        return True
