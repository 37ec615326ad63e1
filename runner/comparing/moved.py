"""How numbers that two runs share moved: their rank correlation, their mean, and which changed most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

_MOST_SHOWN = 5
Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Numbers in A and B.

    Args:
        unit: of the numbers.
        n: of them, in records that are not the same.
        rank_correlation: Spearman's, with ties at their mean rank; None where one side does not vary.
        mean_a, mean_b: their means.
        largest: (name, in A, in B) of those that changed most.
    """

    unit: str
    n: int
    rank_correlation: float | None
    mean_a: float
    mean_b: float
    largest: tuple[tuple[str, float, float], ...]

    @property
    def sentence(self) -> str:
        """All but the largest on one line."""
        rho = "undefined" if self.rank_correlation is None else f"{self.rank_correlation:.3f}"
        return f"{self.n:,} numbers in changed records: rank correlation {rho}, mean {self.unit} {self.mean_a:.3f} -> {self.mean_b:.3f}"


def moved(
    pairs: Sequence[tuple[Thing, float, float]], *, unit: str, name: Callable[[Thing], str] = str
) -> Moved | None:
    """What became of numbers; None where there are none.

    Args:
        pairs: (what it belongs to, in A, in B).
        unit: of the numbers.
        name: of what a number belongs to; asked of those alone that are shown.
    """
    if not pairs:
        return None
    import numpy as np

    before = np.array([left for _, left, _ in pairs])
    after = np.array([right for _, _, right in pairs])
    order = np.argsort(-np.abs(after - before), kind="stable")[:_MOST_SHOWN]
    return Moved(
        unit=unit, n=len(pairs), rank_correlation=spearman(before, after),
        mean_a=float(before.mean()), mean_b=float(after.mean()),
        largest=tuple((name(thing), left, right) for thing, left, right in (pairs[place] for place in order) if left != right),
    )  # fmt: skip


def spearman(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> float | None:
    """Spearman's rank correlation of two arrays (n,); None where one of them does not vary.

    Source: Spearman 1904, American Journal of Psychology 15: the correlation of the ranks, equal values at their mean rank.
    """
    import numpy as np

    ranks = [_ranks(values) for values in (before, after)]
    centred = [rank - rank.mean() for rank in ranks]
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return None if size == 0 else float((centred[0] * centred[1]).sum() / size)


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_rank: np.ndarray[Any, Any] = (ends - (counts - 1) / 2)[place]
    return mean_rank
