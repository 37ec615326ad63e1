"""From the events of a YAML parser to nodes with positions, under rules that are stricter than YAML's.

No tags, no keys twice, no keys that are not text, no merge keys; aliases only as far as they do not multiply. All that
is wrong with a document is collected in one pass; broken syntax and exceeded limits end it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from kpod.runner.errors import Position, Problem
from kpod.runner.node import Entry, Mapping, Node, Scalar, Sequence, dotted
from kpod.runner.scalar import MAX_DIGITS, Value, needs_quotes, scalar_value
from kpod.runner.syntax import Place, explain_syntax, unprintable

MAX_NODES = 100_000
MAX_DEPTH = 100
MAX_PROBLEMS = 50

_LOADER: Any = getattr(yaml, "CLoader", yaml.SafeLoader)
_TAG_PREFIX = "tag:yaml.org,2002:"


class Reading(NamedTuple):
    """The root of a document (None where there is none or it is broken), and what is wrong with it."""

    node: Node | None
    is_block: bool
    problems: list[Problem]


class _Built(NamedTuple):
    """A node, how many nodes it stands for with its aliases written out, and how deep it goes."""

    node: Node
    size: int
    height: int


class _LimitError(Exception):
    """A limit is exceeded: what follows is not read."""


def read_yaml(text: str, *, place: Place) -> Reading:
    """Read one YAML document; problems are returned, not raised."""
    strange = unprintable(text, place=place)
    if strange is not None:
        return Reading(None, False, [strange])
    reader = _Reader(text, place=place)
    node: Node | None = None
    try:
        node = reader.document()
    except _LimitError:
        pass
    except yaml.YAMLError as error:
        reader.problems.append(explain_syntax(error, text, place=place))
    return Reading(node, reader.is_block, reader.problems)


class _Reader:
    """Reads events in order; one method a kind of event."""

    def __init__(self, text: str, *, place: Place) -> None:
        self.problems: list[Problem] = []
        self.is_block = False
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._place = place
        self._anchors: dict[str, _Built] = {}
        self._open: set[str] = set()
        self._num_nodes = 0

    def document(self) -> Node | None:
        """The root of the only document; None where the text is empty."""
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        if event.version not in (None, (1, 2)):
            self._problem(
                event, f"got %YAML {event.version[0]}.{event.version[1]}", (), allowed="1.2"
            )
        root_event = next(self._events)
        self.is_block = getattr(root_event, "flow_style", True) is False
        root = self._node(root_event, (), 1).node
        next(self._events)  # the end of the document
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            self._problem(
                following,
                "a second document begins here",
                (),
                allowed="one document a file",
                hint="remove the '---'",
            )
        return None if isinstance(root, Scalar) and root.value is None else root

    def _node(self, event: Any, path: tuple[str | int, ...], depth: int) -> _Built:
        """The node that begins with this event."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth)
        self._count(event, path, 1)
        if depth > MAX_DEPTH:
            self._stop(event, f"this is nested deeper than {MAX_DEPTH} levels", ())
        self._refuse_tag(event, path)
        if isinstance(event, yaml.ScalarEvent):
            built = _Built(Scalar(self._value(event, path), self._position(event)), 1, 1)
        else:
            built = self._collection(event, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = built
        return built

    def _collection(self, event: Any, path: tuple[str | int, ...], depth: int) -> _Built:
        """A list or mapping; its anchor cannot be used inside it."""
        is_new = event.anchor is not None and event.anchor not in self._open
        if is_new:
            self._open.add(event.anchor)
        build = self._sequence if isinstance(event, yaml.SequenceStartEvent) else self._mapping
        built = build(event, path, depth)
        if is_new:
            self._open.discard(event.anchor)
        return built

    def _alias(self, event: Any, path: tuple[str | int, ...], depth: int) -> _Built:
        """What an alias stands for."""
        if event.anchor in self._open:
            self._stop(event, f"the alias '*{event.anchor}' stands inside what it refers to", path)
        built = self._anchors.get(event.anchor)
        if built is None:
            self._problem(
                event,
                f"the alias '*{event.anchor}' has no '&{event.anchor}' before it",
                path,
                hint=f"text that begins with '*' needs quotes: '*{event.anchor}'",
            )
            return _Built(Scalar(None, self._position(event)), 1, 1)
        self._count(event, path, built.size)
        if depth - 1 + built.height > MAX_DEPTH:
            self._stop(
                event, f"with its aliases this is nested deeper than {MAX_DEPTH} levels", path
            )
        return built

    def _sequence(self, start: Any, path: tuple[str | int, ...], depth: int) -> _Built:
        items: list[Node] = []
        size, height = 1, 0
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            built = self._node(event, (*path, len(items)), depth + 1)
            items.append(built.node)
            size, height = size + built.size, max(height, built.height)
        return _Built(Sequence(tuple(items), self._position(start)), size, height + 1)

    def _mapping(self, start: Any, path: tuple[str | int, ...], depth: int) -> _Built:
        entries: dict[str, Entry] = {}
        size, height = 1, 0
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, path, depth)
            built = self._node(next(self._events), (*path, "?" if key is None else key), depth + 1)
            size, height = size + built.size, max(height, built.height)
            if key is None:
                continue
            if key in entries:
                first = entries[key].key_position
                self._problem(
                    event,
                    f"the key '{key}' stands here twice",
                    (*path, key),
                    hint=f"it stands first at {first}",
                )
                continue
            entries[key] = Entry(self._position(event), built.node)
        return _Built(Mapping(entries, self._position(start)), size, height + 1)

    def _key(self, event: Any, path: tuple[str | int, ...], depth: int) -> str | None:
        """The key of an entry; None, with a problem, where it is none that kpod takes."""
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._problem(event, "got a list or mapping as a key", path, allowed="text")
            self._node(event, path, depth + 1)
            return None
        if isinstance(event, yaml.AliasEvent):
            self._problem(event, f"got the alias '*{event.anchor}' as a key", path, allowed="text")
            return None
        self._refuse_tag(event, path)
        key = str(event.value)
        if event.implicit[0] and key == "<<":
            self._problem(
                event,
                "merge keys ('<<') are not allowed",
                path,
                hint="use `extends: [base.yaml]` for a whole recipe and `like: ID` for a stage",
            )
            return None
        if event.implicit[0] and needs_quotes(key):
            shown = f"'{key}'" if key else "nothing"
            self._problem(
                event,
                f"got {shown} as a key, which is not text",
                path,
                hint=f'write it in quotes: "{key}"',
            )
            return None
        if event.anchor is not None:
            self._anchors[event.anchor] = _Built(Scalar(key, self._position(event)), 1, 1)
        return key

    def _value(self, event: Any, path: tuple[str | int, ...]) -> Value:
        """The value of a scalar: text where it is quoted, else what the core schema makes of it."""
        if not event.implicit[0]:
            return str(event.value)
        try:
            return scalar_value(event.value)
        except ValueError as error:
            self._problem(event, f"got {error}", path, allowed=f"at most {MAX_DIGITS} digits")
            return None

    def _refuse_tag(self, event: Any, path: tuple[str | int, ...]) -> None:
        if event.tag is not None:
            tag = event.tag.replace(_TAG_PREFIX, "!!", 1)
            self._problem(
                event, f"got the tag '{tag}', but tags are not allowed", path, hint="leave it out"
            )

    def _count(self, event: Any, path: tuple[str | int, ...], size: int) -> None:
        self._num_nodes += size
        if self._num_nodes > MAX_NODES:
            self._stop(
                event,
                f"with its aliases written out this holds more than {MAX_NODES:,} values",
                path,
            )

    def _position(self, event: Any) -> Position:
        return self._place(event.start_mark.line, event.start_mark.column)

    def _problem(
        self,
        event: Any,
        message: str,
        path: tuple[str | int, ...],
        *,
        allowed: str = "",
        hint: str = "",
    ) -> None:
        where = self._position(event)
        self.problems.append(
            Problem(message=message, where=where, path=dotted(path), allowed=allowed, hint=hint)
        )
        if len(self.problems) >= MAX_PROBLEMS:
            raise _LimitError

    def _stop(self, event: Any, message: str, path: tuple[str | int, ...]) -> None:
        self._problem(event, message, path)
        raise _LimitError
