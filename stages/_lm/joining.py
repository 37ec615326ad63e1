"""Records of rationales joined to the rationales by id: none missing, none twice (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from kpod.runner import Curriculum, Rationale, StageError, TokenWeights

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
            raise StageError(
                f"rationale {row.rationale_id} has {what} twice\nwire one stage that makes them, not two"
            )
        found[row.rationale_id] = row
    missing = [rationale.id for rationale in rationales if rationale.id not in found]
    if missing:
        raise StageError(
            f"{len(missing)} of {len(rationales)} rationales have no {what}: {', '.join(missing[:3])}\n"
            f"wire {what} that were made from the same rationales"
        )
    return {rationale.id: found[rationale.id] for rationale in rationales}
