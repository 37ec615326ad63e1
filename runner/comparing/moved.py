"""How numbers that two runs share moved: their rank correlation, their mean, and which changed most."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

_MOST_SHOWN = 5
Place = list[int] | str


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


class Columns(NamedTuple):
    """The numbers of a record, and where in it each stands: [start, end], or words; as many places as numbers."""

    places: Sequence[Place]
    numbers: Sequence[float]


class Numbers:
    """Numbers that records of A and B have at the same places, gathered record by record."""

    def __init__(self) -> None:
        self._before: list[float] = []
        self._after: list[float] = []
        self._starts: list[int] = []
        self._names: list[Callable[[int], str]] = []

    def add(self, record_id: str, before: Columns, after: Columns) -> None:
        """One record in A and in B; a number whose place is another one in B does not count."""
        places, left, right = before.places, before.numbers, after.numbers
        if before.places != after.places:
            alike = [one == other for one, other in zip(before.places, after.places, strict=False)]
            places = list(compress(before.places, alike))
            left, right = list(compress(left, alike)), list(compress(right, alike))
        self.add_alike(lambda at: f"{record_id} {places[at]}", left, right)

    def add_alike(
        self, name: Callable[[int], str], before: Sequence[float], after: Sequence[float]
    ) -> None:
        """As many numbers of A as of B, at the same places.

        Args:
            name: of the number that stands there, counted from 0; asked of those alone that are shown.
            before: in A.
            after: in B.
        """
        self._starts.append(len(self._before))
        self._names.append(name)
        self._before += before
        self._after += after

    def moved(self, unit: str) -> Moved | None:
        """What became of them; None where there are none.

        Args:
            unit: of the numbers.
        """
        if not self._before:
            return None
        import numpy as np

        before, after = np.array(self._before), np.array(self._after)
        order = np.argsort(-np.abs(after - before), kind="stable")[:_MOST_SHOWN].tolist()
        pairs = [(self._name(at), self._before[at], self._after[at]) for at in order]
        return Moved(
            unit=unit, n=len(self._before), rank_correlation=spearman(before, after),
            mean_a=float(before.mean()), mean_b=float(after.mean()),
            largest=tuple((name, left, right) for name, left, right in pairs if left != right),
        )  # fmt: skip

    def _name(self, at: int) -> str:
        record = bisect_right(self._starts, at) - 1
        return self._names[record](at - self._starts[record])


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
