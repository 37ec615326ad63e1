"""Scores of samples of questions: intervals, majority votes, chances to pass."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import comb, sqrt
from typing import NamedTuple, TypeVar

_Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point

VoteT = TypeVar("VoteT", bound=Hashable)


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


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The unbiased estimate of the chance that at least one of k samples is correct: 1 - C(n-c, k) / C(n, k).

    Raises:
        ValueError: unless 0 <= num_correct <= num_samples and 1 <= k <= num_samples.

    Source: Chen et al. 2021, Evaluating Large Language Models Trained on Code (arXiv 2107.03374), equation 1.
    """
    if not (0 <= num_correct <= num_samples and 1 <= k <= num_samples):
        raise ValueError(
            f"got {num_correct} correct of {num_samples} samples and k = {k};"
            " needed: 0 <= correct <= samples and 1 <= k <= samples"
        )
    return 1 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def majority(votes: Sequence[VoteT | None]) -> VoteT | None:
    """The commonest vote; among equals the one that came first; None (no answer) does not vote."""
    counts: dict[VoteT, int] = {}
    for vote in votes:
        if vote is not None:
            counts[vote] = counts.get(vote, 0) + 1
    return max(counts, key=lambda vote: counts[vote], default=None)
