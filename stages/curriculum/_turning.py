"""A curriculum whose stages are played backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kpod.runner import Curriculum, StageError


def num_stages(rows: Sequence[Curriculum]) -> int:
    """T as it can be seen: the last epoch at which anything is given, from 1; 0 where nothing ever is.

    Raises:
        StageError: there are no rows, or one has more epochs than another.
    """
    if not rows:
        raise StageError("the curriculum to reverse is empty; look at the stage that made it")
    num_epochs = len(rows[0].given)
    for row in rows:
        if not len(row.given) == len(row.cut) == num_epochs:
            raise StageError(
                f"rationale {row.rationale_id}: {len(row.given)} epochs of steps and {len(row.cut)} of cuts, where the first"
                f" rationale has {num_epochs}\nmake the curriculum again; every rationale has one entry an epoch"
            )
    epochs = range(num_epochs, 0, -1)
    return next((epoch for epoch in epochs if any(row.given[epoch - 1] for row in rows)), 0)


def turned(row: Curriculum, num_stages: int) -> Curriculum:
    """The row with its first `num_stages` epochs in reverse order."""
    return replace(
        row,
        given=row.given[:num_stages][::-1] + row.given[num_stages:],
        cut=row.cut[:num_stages][::-1] + row.cut[num_stages:],
    )
