"""Records of rationales joined to the rationales by id: none missing, none twice (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kpod.runner import Curriculum, Rationale, StageError, TokenWeights
from kpod.stages._lm.shelf import Shelf

RowT = TypeVar("RowT", TokenWeights, Curriculum)


def by_rationale(
    rows: Iterable[RowT], rationales: Sequence[Rationale], *, what: str
) -> dict[str, RowT]:
    """The row of each of these rationales, by id, in their order.

    Rows of other rationales are passed over: a filter may come after the stage that made them.

    Args:
        rows: at most one a rationale.
        rationales: whose rows are wanted.
        what: what the rows are, in words, for messages.

    Raises:
        StageError: a rationale has no row, or two.
    """
    found: dict[str, RowT] = {}
    for row in rows:
        if row.rationale_id in found:
            raise _twice(row.rationale_id, what)
        found[row.rationale_id] = row
    missing = [rationale.id for rationale in rationales if rationale.id not in found]
    if missing:
        raise _missing(missing, len(rationales), what)
    return {rationale.id: found[rationale.id] for rationale in rationales}


def shelved(rows: Iterable[RowT], *, what: str, record: type[RowT], folder: Path) -> Shelf[RowT]:
    """Rows on disk, by the id of their rationale: whatever their order, memory does not grow with them.

    Args:
        rows: at most one a rationale.
        what: what the rows are, in words, for messages.
        record: their class.
        folder: on the disk that is to hold them.

    Raises:
        StageError: a rationale has two.
    """
    shelf = Shelf(record, folder)
    for row in rows:
        if not shelf.put(row.rationale_id, row):
            raise _twice(row.rationale_id, what)
    return shelf


def check_shelved(shelves: Mapping[str, Shelf[Any]], rationales: Iterable[Rationale]) -> int:
    """The number of rationales, each of which has a row on every shelf.

    Args:
        shelves: by what the rows are, in words, for messages; the first shelf that lacks rows is told.
        rationales: read once.

    Raises:
        StageError: a rationale has no row.
    """
    missing: dict[str, list[str]] = {what: [] for what in shelves}
    num_all = 0
    for rationale in rationales:
        num_all += 1
        for what, shelf in shelves.items():
            if rationale.id not in shelf:
                missing[what].append(rationale.id)
    for what, ids in missing.items():
        if ids:
            raise _missing(ids, num_all, what)
    return num_all


def _twice(rationale_id: str, what: str) -> StageError:
    return StageError(
        f"rationale {rationale_id} has {what} twice\nwire one stage that makes them, not two"
    )


def _missing(missing: Sequence[str], num_all: int, what: str) -> StageError:
    return StageError(
        f"{len(missing)} of {num_all} rationales have no {what}: {', '.join(missing[:3])}\n"
        f"wire {what} that were made from the same rationales"
    )
