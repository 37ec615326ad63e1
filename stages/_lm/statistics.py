"""The interval of a share."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

_Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


class Interval(NamedTuple):
    """Bounds of a share, both in [0, 1]."""

    low: float
    high: float


def wilson_interval(num_correct: int, n: int) -> Interval:
    """The 95 % score interval of a binomial share; it stays in [0, 1] and is honest at 0 of n and n of n.

    Args:
        num_correct: successes, 0 <= num_correct <= n.
        n: trials, >= 1.

    Raises:
        ValueError: n is 0, or num_correct is not within 0 … n.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference (JASA 22).
    """
    if not 0 <= num_correct <= n or n == 0:
        raise ValueError(f"got {num_correct} of {n}; needed: 0 <= num_correct <= n and n >= 1")
    share = num_correct / n
    square = _Z_95**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    reach = _Z_95 * sqrt(share * (1 - share) / n + square / (4 * n**2)) / (1 + square / n)
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach))
