"""The values of a YAML document, each with the place it was written in.

Plain data forgets where it came from; a recipe must not: every error names file, line and column, and
`kpod show` tells for each value which file, or the command line, set it. Values are never changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Any

from kpod.runner.errors import Position


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value without parts: text, number, truth value or null."""

    value: str | int | float | bool | None
    position: Position


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class Entry:
    """A value in a mapping, and where its key stands."""

    key_position: Position
    node: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Values by key, in the order of the file."""

    entries: dict[str, Entry] = field(hash=False)
    position: Position

    def get(self, key: str) -> Node | None:
        """The value under a key; None where there is no such key."""
        entry = self.entries.get(key)
        return None if entry is None else entry.node


Node = Scalar | Sequence | Mapping


def plain(node: Node) -> Any:
    """The same data as dicts, lists and scalars, without positions."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(entry.node) for key, entry in node.entries.items()}


def located(value: Any, position: Position) -> Node:
    """Plain data as nodes that all stand in one place (a default, the command line)."""
    if isinstance(value, dict):
        entries = {key: Entry(position, located(item, position)) for key, item in value.items()}
        return Mapping(entries, position)
    if isinstance(value, (list, tuple)):
        return Sequence(tuple(located(item, position) for item in value), position)
    return Scalar(value, position)


def find(node: Node, parts: Ordered[str | int]) -> Node | None:
    """The value that lies under these keys and list indices; None where there is none."""
    found: Node | None = node
    for part in parts:
        if isinstance(found, Mapping) and isinstance(part, str):
            found = found.get(part)
        elif isinstance(found, Sequence) and isinstance(part, int) and part < len(found.items):
            found = found.items[part]
        else:
            return None
    return found


def dotted(parts: Ordered[str | int]) -> str:
    """The name of a value for people: `stages.student.with.targets[1]`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def merge(base: Node, over: Node, *, keeps_null: bool = False) -> Node:
    """`base` with the changes of `over`: maps merge deep, lists and scalars replace, null deletes the key.

    Each value keeps the position it was written in; a merged mapping stands where `over` wrote it. Null deletes
    also where `base` lacks the key, so that the result never depends on which file of several set it. In a stage that
    is `like` another, null is kept, because what it deletes comes from that other stage later (`keeps_null`).
    """
    if not isinstance(over, Mapping):
        return over
    entries = dict(base.entries) if isinstance(base, Mapping) else {}
    keeps_null = keeps_null or _is_like(over, entries)
    for key, entry in over.entries.items():
        if isinstance(entry.node, Scalar) and entry.node.value is None:
            entries.pop(key, None)
            if keeps_null and key != "like":
                entries[key] = entry
            continue
        below = entries[key].node if key in entries else Mapping({}, entry.node.position)
        entries[key] = Entry(entry.key_position, merge(below, entry.node, keeps_null=keeps_null))
    return Mapping(entries, over.position)


def _is_like(over: Mapping, base: dict[str, Entry]) -> bool:
    """Whether the merged mapping is a stage that says `like`."""
    said = over.entries.get("like", base.get("like"))
    return said is not None and isinstance(said.node, Scalar) and said.node.value is not None
