"""Values against JSON Schemas, with messages for people: where, what we got, what is allowed, what to do.

The verdict is jsonschema's; the words and the positions are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Protocol, TypeGuard

from kpod.runner.errors import Position, Problem, nearest
from kpod.runner.node import Mapping, Node, dotted, find, plain
from kpod.runner.scalar import needs_quotes
from kpod.runner.wording import (
    BOUNDS,
    alternative_words,
    bare,
    first_sentence,
    range_words,
    says,
    shown,
    type_words,
)

_SIZES = {
    "minItems": "at least {} items", "minProperties": "at least {} entries", "minLength": "at least {} characters",
    "maxItems": "at most {} items", "maxProperties": "at most {} entries", "maxLength": "at most {} characters",
}  # fmt: skip


class _Fault(Protocol):
    """What we read of a jsonschema ValidationError, whose own types admit values that these rules never have."""

    instance: Any
    message: str
    schema: dict[str, Any]
    validator: str
    validator_value: Any

    @property
    def absolute_path(self) -> Iterable[str | int]: ...
    @property
    def parent(self) -> _Fault | None: ...
    @property
    def path(self) -> Iterable[str | int]: ...
    @property
    def schema_path(self) -> Sequence[str | int]: ...
    @property
    def context(self) -> Sequence[_Fault]: ...


def validate(value: Node, schema: dict[str, Any], *, path: str, subject: str) -> list[Problem]:
    """Everything that a schema finds wrong with a value, in the order of the file.

    Args:
        value: with positions.
        schema: JSON Schema, draft 2020-12.
        path: the dotted name of the value, or "" for a whole document.
        subject: whose settings these are (`student.causal_lm`), for messages.
    """
    return find_problems(plain(value), schema, node=value, path=path, subject=subject)


def find_problems(
    data: Any, schema: dict[str, Any], *, node: Node | None, path: str, subject: str
) -> list[Problem]:
    """As `validate`, for plain data whose positions may be unknown."""
    telling = _Telling(node=node, path=path, subject=subject)
    problems = [
        problem
        for error in _validator()(schema).iter_errors(data)
        for problem in telling.problems(error)
    ]
    return sorted(problems, key=_order)


@cache
def _validator() -> Any:
    """Jsonschema's validator, for which only finite numbers are numbers."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "number": lambda _checker, value: is_number(value),
            "integer": lambda _checker, value: is_integer(value),
        }
    )
    return extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-untyped-call]


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number that a float can hold: no truth value, not infinite, not NaN."""
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:
        return False


def is_integer(value: object) -> bool:
    """Whether a value is a number without a fraction: 3 and 3.0, as JSON Schema has it."""
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def _order(problem: Problem) -> tuple[str, int, int]:
    where = problem.where or Position("")
    return where.file, where.line, where.column


class _Telling:
    """Turns a validator's errors into problems of one document."""

    def __init__(self, *, node: Node | None, path: str, subject: str) -> None:
        self._node = node
        self._path = path
        self._subject = subject

    def problems(self, error: _Fault) -> Iterator[Problem]:
        """One problem an error; one for each key where an error is about several."""
        rule = error.validator
        if rule == "additionalProperties" and error.validator_value is False:
            yield from self._unknown(error)
        elif rule == "required":
            yield from self._missing(error)
        elif rule in {"anyOf", "oneOf"}:
            yield from self._none_fits(error)
        elif "propertyNames" in error.schema_path:
            yield self._bad_key(error)
        else:
            yield self._wrong(error, rule)

    def _wrong(self, error: _Fault, rule: str) -> Problem:
        """A value of the wrong type, size or form."""
        got, name = shown(error.instance), self._name(error)
        if rule == "type":
            wanted = type_words(error.validator_value)
            if isinstance(error.instance, float):
                wanted = wanted.replace("a number", "a finite number")
            message = f"got {got}, but {name} must be {wanted}"
            return self._problem(error, message, hint=_form_hint(error))
        if rule in BOUNDS:
            message = f"got {got}, but {name} must be {BOUNDS[rule]} {error.validator_value}"
            return self._problem(error, message, allowed=range_words(error.schema))
        if rule in {"enum", "const"}:
            choices = error.validator_value if rule == "enum" else [error.validator_value]
            words = [bare(choice) for choice in choices]
            hint = nearest(str(error.instance), words)
            return self._problem(
                error,
                f"got {got}, which is no value of {name}",
                allowed=", ".join(words),
                hint=hint,
            )
        if rule in _SIZES:
            size = f"{len(error.instance)}" if error.instance else "none"
            wanted = _SIZES[rule].format(error.validator_value)
            if error.validator_value == 1:
                wanted = (
                    wanted.replace("items", "item")
                    .replace("entries", "entry")
                    .replace("characters", "character")
                )
            return self._problem(error, f"got {size}, but {name} must hold {wanted}")
        if rule == "pattern":
            allowed = says(error.schema)
            return self._problem(error, f"got {got}, which is no value of {name}", allowed=allowed)
        return self._problem(error, f"got {got}, but for {name}: {error.message}")

    def _unknown(self, error: _Fault) -> Iterator[Problem]:
        """Each key that the schema does not know, at the key."""
        known = sorted(error.schema.get("properties", {}))
        below = dotted([*error.absolute_path])
        owner = f"{below} of {self._subject}" if below else self._subject
        for key in error.instance:
            if key not in known:
                yield self._problem(
                    error,
                    f"unknown setting '{key}' for {owner}",
                    key=key,
                    allowed=", ".join(known) or "nothing: it has no settings",
                    hint=nearest(key, known),
                )

    def _missing(self, error: _Fault) -> Iterator[Problem]:
        """Each required key that is not there, at the mapping. jsonschema gives one error for each; we take its key."""
        key = next(key for key in error.validator_value if error.message.startswith(f"{key!r} "))
        schema = error.schema.get("properties", {}).get(key, {})
        doc = first_sentence(schema)
        kind = type_words(schema["type"]) if "type" in schema else ""
        hint = f"{key}: {doc}" if doc else ""
        yield self._problem(error, f"setting '{key}' is missing", key=key, allowed=kind, hint=hint)

    def _none_fits(self, error: _Fault) -> Iterator[Problem]:
        """None of several alternatives: the errors of the one whose type fits, else what the types are."""
        by_alternative: dict[int, list[_Fault]] = {}
        for inner in error.context:
            by_alternative.setdefault(int(inner.schema_path[0]), []).append(inner)
        for inners in by_alternative.values():
            is_own_type = all(
                inner.validator not in {"type", "enum", "const"} or inner.path for inner in inners
            )
            if is_own_type:
                for inner in inners:
                    yield from self.problems(inner)
                return
        words = ", or ".join(alternative_words(schema) for schema in error.validator_value)
        yield self._problem(
            error, f"got {shown(error.instance)}, but {self._name(error)} must be {words}"
        )

    def _bad_key(self, error: _Fault) -> Problem:
        """A key that is no name."""
        return self._problem(
            error,
            f"got the name '{error.instance}'",
            key=str(error.instance),
            allowed=says(error.schema),
        )

    def _name(self, error: _Fault) -> str:
        """The value for people: its name, and what it means where the schema says so."""
        parts = [*error.absolute_path]
        if not parts:
            return self._subject
        doc = first_sentence(error.schema)
        if not doc and error.parent is not None and [*error.parent.absolute_path] == parts:
            doc = first_sentence(error.parent.schema)  # one of several alternatives
        return dotted(parts) + (f" ({doc})" if doc else "")

    def _problem(
        self,
        error: _Fault,
        message: str,
        *,
        key: str = "",
        allowed: str = "",
        hint: str = "",
    ) -> Problem:
        parts: list[str | int] = [*error.absolute_path]
        tail = dotted([*parts, key] if key else parts)
        joint = "." if self._path and tail and not tail.startswith("[") else ""
        return Problem(
            message=message,
            where=self._where(parts, key),
            path=f"{self._path}{joint}{tail}",
            allowed=allowed,
            hint=hint,
        )

    def _where(self, parts: list[str | int], key: str) -> Position | None:
        """Where the key stands, else the value, else the nearest value around it."""
        if self._node is None:
            return None
        node = find(self._node, parts)
        while node is None:
            parts = parts[:-1]
            node = find(self._node, parts)
        entry = node.entries.get(key) if isinstance(node, Mapping) and key else None
        return node.position if entry is None else entry.key_position


def _form_hint(error: _Fault) -> str:
    """What to do where quotes, brackets or a dash make the difference between this value and another."""
    types = error.validator_value
    wanted = {types} if isinstance(types, str) else set(types)
    value = error.instance
    if "string" in wanted and isinstance(value, int | float | bool):
        return f"put it in quotes: '{bare(value)}'"
    if isinstance(value, str) and wanted & {"integer", "number", "boolean"}:
        return "write it without quotes" if needs_quotes(value) and value else ""
    if isinstance(value, str) and "array" in wanted:
        item = f"'{value}'" if needs_quotes(value) else value
        return f"write it in brackets, also where it is one: [{item}]"
    if isinstance(value, list) and "object" in wanted:
        return "write its keys without '- ', or in { }: {key: value}"
    return ""
