"""Where differences over seeds stand on an axis around 0; the template draws them as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kpod.stages.report._charts import nice_ceiling
from kpod.stages.report._versus import Versus


class Mark(NamedTuple):
    """One seed's difference, in percent of the width."""

    x: float
    title: str


class Tree(NamedTuple):
    """One comparison, in percent of the width.

    Args:
        seeds: one mark each.
        mean: None where nothing is paired.
        low, high: ends of the interval, at most the edges; None below two seeds.
    """

    seeds: tuple[Mark, ...]
    mean: float | None
    low: float | None
    high: float | None


class Axis(NamedTuple):
    """What all comparisons are drawn on.

    Args:
        points: the ends are minus and plus so many points.
    """

    points: float

    def tree(self, versus: Versus) -> Tree:
        """One comparison on this axis."""
        return Tree(
            seeds=tuple(
                Mark(self._at(each.value), f"seed {each.seed}: {100 * each.value:+.2f} points")
                for each in versus.differences
            ),
            mean=None if versus.mean is None else self._at(versus.mean),
            low=None if versus.low is None else self._at(versus.low),
            high=None if versus.high is None else self._at(versus.high),
        )

    def _at(self, value: float) -> float:
        share = 100 * value / self.points
        return round(50 + 50 * min(1.0, max(-1.0, share)), 2)


def axis_of(comparisons: Sequence[Versus]) -> Axis:
    """Wide enough for every seed's difference; an interval of few seeds may be wider and is cut at the edge."""
    widest = max((abs(each.value) for row in comparisons for each in row.differences), default=0.0)
    return Axis(nice_ceiling(100 * 1.05 * widest) if widest else 1.0)
