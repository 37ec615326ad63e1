"""A few questions of all that a stage reads: their ids, and the records that tell of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kpod.runner.plan import Content
from kpod.runner.record import Question
from kpod.runner.stage import Input
from kpod.runner.store import Entry

Contents = Mapping[str, tuple[Content, ...]]


def question_ids(inputs: Mapping[str, Input[Any]], contents: Contents) -> set[str]:
    """Ids of the questions among what a stage reads."""
    return {
        row["id"]
        for name, items in contents.items()
        if inputs[name].record is Question
        for content in items
        for row in _rows(content.entry.path(content.output))
    }


def drawn(ids: set[str], number: int) -> frozenset[str]:
    """So many of them, the same ones every time: those whose hash comes first."""
    return frozenset(sorted(ids, key=lambda id_: hashlib.sha256(id_.encode()).digest())[:number])


def contents_of(
    inputs: Mapping[str, Input[Any]], contents: Contents, chosen: frozenset[str], folder: Path
) -> dict[str, tuple[Content, ...]]:
    """What a stage reads, of these questions alone; models as they are.

    Args:
        inputs: of the stage.
        contents: what it reads.
        chosen: ids of questions.
        folder: where the records are written.
    """
    found: dict[str, tuple[Content, ...]] = {}
    for name, items in contents.items():
        if inputs[name].record.is_folder:
            found[name] = items
            continue
        key = "id" if inputs[name].record is Question else "question_id"
        part = []
        for number, content in enumerate(items):
            place = folder / f"{name}-{number}"
            place.mkdir()
            source = content.entry.path(content.output)
            write_rows(source, chosen, place / f"{content.output}.jsonl", key=key)
            part.append(replace(content, entry=Entry(place, content.entry.manifest)))
        found[name] = tuple(part)
    return found


def write_rows(source: Path, chosen: frozenset[str], target: Path, *, key: str) -> None:
    """The lines of a file that tell of these questions, byte for byte; `key` is where they name theirs."""
    with source.open("rb") as lines, target.open("wb") as out:
        out.writelines(line for line in lines if json.loads(line)[key] in chosen)


def names_questions(path: Path) -> bool:
    """Whether it is a file whose records tell which question they are of."""
    return path.is_file() and "question_id" in next(_rows(path), {"question_id": ""})


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
