"""YAML documents: read with positions and strict rules, changed by `--set`, and written so that they read back equal."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml

from kpod.runner.errors import Position, Problem, RecipeError, nearest
from kpod.runner.node import (
    Entry,
    Mapping,
    Node,
    Scalar,
    Sequence,
    dotted,
    find,
    located,
    merge,
    plain,
)
from kpod.runner.reader import read_yaml
from kpod.runner.scalar import needs_quotes
from kpod.runner.wording import shown

__all__ = [
    "MAX_BYTES", "Entry", "Mapping", "Node", "Scalar", "Sequence", "dotted", "dump", "find", "load_document",
    "located", "merge", "parse_document", "plain", "set_value",
]  # fmt: skip

MAX_BYTES = 1_000_000
"""A recipe of 200 stages has 30,000 bytes; whoever brings a megabyte means another file."""

COMMAND_LINE = Position("--set")

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load_document(path: Path, *, name: str | None = None) -> Node:
    """Read a YAML file.

    Args:
        path: the file.
        name: what positions call it; by default the path as given.

    Returns:
        The root value, each value with its position.

    Raises:
        RecipeError: it cannot be read, is too large or no UTF-8, or breaks a rule of `parse_document`.
    """
    file = str(path) if name is None else name
    raw = _read(path, Position(file))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        where = Position(file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        problem = Problem(
            message=f"the byte 0x{raw[error.start]:02x} is not UTF-8",
            where=where,
            hint="save the file as UTF-8",
        )
        raise RecipeError([problem]) from None
    return parse_document(text, file=file)


def parse_document(text: str, *, file: str) -> Node:
    """Read YAML text: YAML 1.2 core scalars, no tags, no merge keys, no key twice, keys are text.

    Args:
        text: one document.
        file: what positions call it.

    Raises:
        RecipeError: all that is wrong, with positions; also where nothing stands in the document.
    """
    reading = read_yaml(text, place=lambda line, column: Position(file, line + 1, column + 1))
    if reading.problems:
        raise RecipeError(reading.problems)
    if reading.node is None:
        raise RecipeError([Problem(message="the document is empty", where=Position(file))])
    return reading.node


def set_value(node: Node, name: str, value_text: str, position: Position = COMMAND_LINE) -> Node:
    """The document with one value changed, as `--set a.b=value` asks; missing mappings are made.

    Args:
        node: the document; it stays as it is.
        name: keys joined by dots.
        value_text: a YAML scalar, or a list or mapping in one line (`[a, b]`, `{a: 1}`); nothing means null.
        position: where the new values say that they come from.

    Raises:
        RecipeError: the name is none, leads through a value without keys, or the text is no such value.
    """
    parts = name.split(".")
    if not all(part.strip() == part and part for part in parts):
        problem = Problem(
            message=f"got '{name}', which is no dotted name",
            where=position,
            allowed="a=value, a.b=value",
        )
        raise RecipeError([problem])
    return _with(node, parts, 0, _flow_value(value_text, name, position))


def dump(data: Any) -> str:
    """YAML text of plain data, in the order given, that `parse_document` reads back to equal data.

    Args:
        data: dicts with text keys, lists, tuples (written as lists), and scalars.
    """
    text = yaml.dump(
        data,
        Dumper=_Dumper,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=1000,
    )
    assert isinstance(text, str)
    # a lone scalar is followed by the mark of the document's end
    return f"{text[:-5]}\n" if text.endswith("\n...\n") else text


def _read(path: Path, where: Position) -> bytes:
    """The bytes of a regular file of at most `MAX_BYTES`."""
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            problem = Problem(
                message="this is a folder, not a file", where=where, hint=_names_in(path, "")
            )
            raise RecipeError([problem])
        if not stat.S_ISREG(facts.st_mode):
            raise RecipeError([Problem(message="this is not a regular file", where=where)])
        with path.open("rb") as file:
            raw = b"" if facts.st_size > MAX_BYTES else file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        hint = _names_in(path.parent, path.name)
        raise RecipeError(
            [Problem(message="there is no such file", where=where, hint=hint)]
        ) from None
    except (OSError, ValueError) as error:
        said = (getattr(error, "strerror", None) or str(error)).lower()
        raise RecipeError(
            [Problem(message=f"the file cannot be read: {said}", where=where)]
        ) from None
    size_b = max(facts.st_size, len(raw))
    if size_b > MAX_BYTES:
        problem = Problem(
            message=f"the file has {size_b:,} bytes, which is no recipe",
            where=where,
            allowed=f"at most {MAX_BYTES:,} bytes",
        )
        raise RecipeError([problem])
    return raw


def _names_in(folder: Path, name: str) -> str:
    """The hint that names the YAML files of a folder, or the one whose name is nearest."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"})
    if not names:
        return f"no *.yaml lies in {folder}"
    more = ", …" if len(names) > 8 else ""
    return nearest(name, names) or f"in {folder}: {', '.join(names[:8])}{more}"


def _flow_value(text: str, name: str, position: Position) -> Node:
    """The value that stands behind the `=` of `--set`."""
    reading = read_yaml(text, place=lambda _line, _column: position)
    if reading.problems or reading.is_block:
        said = (
            reading.problems[0].message
            if reading.problems
            else "it is neither a word nor closed in [ ] or { }"
        )
        problem = Problem(
            message=f"got '{text}', which is no value: {said}",
            where=position,
            path=name,
            allowed="a word or number, [a, b], {a: 1}, or text in quotes",
        )
        raise RecipeError([problem])
    return Scalar(None, position) if reading.node is None else reading.node


def _with(node: Node | None, parts: list[str], depth: int, value: Node) -> Node:
    """`node` with `value` under the keys from `depth` on."""
    if depth == len(parts):
        return value
    if isinstance(node, Sequence) or (isinstance(node, Scalar) and node.value is not None):
        path = dotted(parts[:depth])
        kind = "a list" if isinstance(node, Sequence) else shown(node.value)
        problem = Problem(
            message=f"got '{dotted(parts)}', but {path or 'the document'} is {kind} and has no '{parts[depth]}'",
            where=value.position,
            path=dotted(parts),
            hint=f"set the whole of it: {path}=…" if path else "",
        )
        raise RecipeError([problem])
    entries = dict(node.entries) if isinstance(node, Mapping) else {}
    below = entries.get(parts[depth])
    key_position = below.key_position if below is not None else value.position
    inner = _with(None if below is None else below.node, parts, depth + 1, value)
    entries[parts[depth]] = Entry(key_position, inner)
    return Mapping(entries, node.position if isinstance(node, Mapping) else value.position)


class _Dumper(_DUMPER):  # type: ignore[misc]
    """PyYAML's writer without anchors, and with quotes where a reader of YAML 1.2 needs them."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - equal parts are written out each time
        """Refer to nothing."""
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    """Text as a block where it has several lines, in quotes where it would be read as something else."""
    style = "'" if needs_quotes(text) else None
    if "\n" in text:
        style = "|" if _is_tidy(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_tidy(text: str) -> bool:
    """Whether a literal block shows these lines as they are: no odd spaces, no odd characters."""
    lines = text.split("\n")
    is_flush = bool(lines[0]) and not lines[0].startswith(" ")
    return is_flush and all(line == line.rstrip() and line.isprintable() for line in lines)


_Dumper.add_representer(str, _represent_text)
