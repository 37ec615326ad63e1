"""What a difficulty stage tells about its steps: how many, how hard, and which numbers a cut would have broken."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpod.runner import Context, Difficulty, Rationale

# 3.5, and .5 or $.50 as GSM8K's writers have it; not the missing space of "5 apples.3 more".
_DECIMAL = re.compile(r"(?<![A-Za-z])\.(?=[0-9])")
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def note_steps(
    ctx: Context[Any], rationales: Sequence[Rationale], rows: Sequence[Difficulty]
) -> None:
    """Note what the report shows of the steps.

    Args:
        ctx: gets the notes.
        rationales: at least one.
        rows: one a rationale, in their order; each with at least one step.
    """
    nats = sorted(value for row in rows for *_, value in row.steps)
    counts = Counter(len(row.steps) for row in rows)
    ctx.note("rationales", len(rows))
    ctx.note("steps", len(nats))
    ctx.note("steps_by_rationale", {str(count): counts[count] for count in sorted(counts)})
    ctx.note("total_difficulty", total_difficulty(rows))
    ctx.note("mean_nats", math.fsum(nats) / len(nats))
    ctx.note("quantiles_nats", {f"{share:g}": quantile(nats, share) for share in _QUANTILES})
    ctx.note(
        "num_decimals_kept",
        sum(
            num_decimals_kept(rationale.text, row)
            for rationale, row in zip(rationales, rows, strict=True)
        ),
    )


def total_difficulty(rows: Sequence[Difficulty]) -> float:
    """B, the difficulty of all steps together. Source: KPOD Sec. 3.4, the sum below Eq. 9."""
    return math.fsum(value for row in rows for *_, value in row.steps)


def num_decimals_kept(text: str, row: Difficulty) -> int:
    """Decimal points of a text that no step ends at: those that a cut at every period would have broken."""
    ends = {end for _, end, _ in row.steps}
    return sum(point.end() not in ends for point in _DECIMAL.finditer(text))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share in [0, 1] of at least one ordered value lies, interpolated between neighbours."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
