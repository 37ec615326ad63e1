"""Paths that a recipe names: each counts from the folder of the file that wrote it (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kpod.runner import document
from kpod.runner.document import Node
from kpod.runner.errors import Position, Problem, RecipeError


def with_absolute(data: Any, node: Node | None, parts: Sequence[str]) -> Any:
    """Settings with the paths of that name made absolute.

    Args:
        data: plain data.
        node: the same with positions; None leaves the data as it is.
        parts: the name of the paths; `*` stands for any key or index.

    Raises:
        RecipeError: a path is one that no file can have.
    """
    if node is None or data is None:
        return data
    if not parts:
        return _absolute(data, node.position) if isinstance(data, str) else data
    first, *rest = parts
    keys = range(len(data)) if isinstance(data, list) else [*data]
    changed = {
        key: with_absolute(data[key], document.find(node, [key]), rest)
        for key in keys
        if first in (key, "*")
    }
    if isinstance(data, list):
        return [changed.get(key, item) for key, item in enumerate(data)]
    return {**data, **changed}


def _absolute(path: str, written_in: Position) -> str:
    if "\0" in path:
        problem = Problem(
            message=f"got '{path}'", where=written_in, allowed="a path without a NUL character",
            hint="write the file's name as the file system has it",
        )  # fmt: skip
        raise RecipeError([problem])
    is_file = written_in != document.COMMAND_LINE
    folder = Path(written_in.file).absolute().parent if is_file else Path.cwd()
    return str((folder / Path(path).expanduser()).resolve())
