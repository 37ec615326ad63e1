"""What several seeds allow to say about two methods: paired differences, their interval and their tests. No files here.

Two arms that share a seed share initialisation and data order, so their scores are compared seed by seed. A statement
about a method needs several seeds; two students of one seed are compared by `mcnemar`, and the two are never mixed.
Source: DESIGN 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, fsum, isfinite, sqrt
from random import Random
from statistics import NormalDist
from typing import Any, NamedTuple

from kpod.runner.t_distribution import reach, two_tails

SEEDS_NEEDED = 5
"""Below it no claim is made: our choice. With 4 seeds no sign-flip p is under 0.125, with 5 none under 0.0625."""

EXACT_UP_TO = 20
"""Differences up to which all sign patterns are enumerated: 2^20 of them, half of which are mirror images."""

NUM_DRAWS = 100_000
"""Sign patterns drawn beyond that: the standard error of a p of 0.05 is then 0.0007."""

LEVEL = 0.05
"""Of all tests and intervals here, by convention."""


# Quantile of the normal distribution for the usual power of 0.8.
_Z_POWER = 0.841621


class SignFlip(NamedTuple):
    """Two-sided p of the sign-flip test, and whether all patterns were counted."""

    p: float
    is_exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Differences B minus A, one a seed, as shares (0.01 is one point).

    Args:
        n: differences, >= 1.
        mean: of the differences.
        sd: their standard deviation (n - 1); None where n is 1.
        low, high: 95 % t interval of the mean; None where n is 1.
        p_t: two-sided t test of mean 0; None where n is 1, or where the differences are all the same and not 0.
        p_flip: two-sided sign-flip test.
        is_exact: whether p_flip counts all sign patterns, or draws.
        p_holm, p_flip_holm: both corrected for `family` comparisons; equal to the plain ones where family is 1.
        family: comparisons that were corrected together.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p_t: float | None
    p_flip: float
    is_exact: bool
    p_holm: float | None
    p_flip_holm: float
    family: int = 1

    @property
    def is_claim(self) -> bool:
        """Whether one method may be called better: seeds enough, an interval without 0, and p below the level once corrected."""
        if self.n < SEEDS_NEEDED or self.low is None or self.high is None or self.p_holm is None:
            return False
        return not self.low <= 0 <= self.high and self.p_holm < LEVEL

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "is_claim": self.is_claim}

    def sentence(self, a: str, b: str) -> str:
        """What can be said of the two methods; a winner is named only where `is_claim`."""
        return f"{self.claim(a, b)}: {self.figures()}"

    def claim(self, a: str, b: str) -> str:
        """The same without its figures."""
        if self.n < SEEDS_NEEDED:
            seeds = f"{self.n} seed{'s' if self.n > 1 else ''}"
            return f"{seeds}: no claim about {b} against {a}, {SEEDS_NEEDED} seeds needed"
        if self.is_claim:
            winner, loser = (b, a) if self.mean > 0 else (a, b)
            return f"{winner} is better than {loser}"
        if self.low is not None and self.high is not None and self.low <= 0 <= self.high:
            return f"no winner between {a} and {b}, the interval holds 0"
        if self.sd == 0:
            return f"no winner between {a} and {b}, all differences are the same, so there is no t test"
        return f"no winner between {a} and {b} after the correction for {self.family} comparisons"

    def figures(self) -> str:
        """Mean, spread, interval and tests on one line, in points."""
        mean = f"mean difference {_points(self.mean)} points"
        if self.sd is None or self.low is None or self.high is None:
            return f"{mean}, n = 1 seed"
        exact = "exact" if self.is_exact else f"{NUM_DRAWS:,} draws"
        corrected = (
            ""
            if self.family == 1
            else f"; Holm over {self.family}: t {_p(self.p_holm)}, sign-flip {_p(self.p_flip_holm)}"
        )
        return (
            f"{mean} (sd {self.sd * 100:.2f}), 95 % t interval [{_points(self.low)}, {_points(self.high)}], "
            f"t {_p(self.p_t)}, sign-flip {_p(self.p_flip)} ({exact}), n = {self.n} seeds{corrected}"
        )


def paired(differences: Sequence[float]) -> Paired:
    """Interval and tests of the mean of paired differences.

    Args:
        differences: B minus A, one a seed, finite.

    Raises:
        ValueError: there is none, or one is not finite.

    Source: Student 1908, Biometrika 6; Fisher 1935, The Design of Experiments, section 21 (sign flips).
    """
    if not differences or not all(map(isfinite, differences)):
        raise ValueError(f"got {list(differences)}; needed: at least one finite difference")
    n, flip = len(differences), sign_flip(differences)
    mean = fsum(differences) / n
    if n == 1:
        return Paired(
            n=1, mean=mean, sd=None, low=None, high=None, p_t=None, p_flip=flip.p,
            is_exact=flip.is_exact, p_holm=None, p_flip_holm=flip.p,
        )  # fmt: skip
    sd = _spread(differences, mean)
    half, p_t = _t_test(mean, sd / sqrt(n), freedom=n - 1)
    return Paired(
        n=n, mean=mean, sd=sd, low=mean - half, high=mean + half, p_t=p_t, p_flip=flip.p,
        is_exact=flip.is_exact, p_holm=p_t, p_flip_holm=flip.p,
    )  # fmt: skip


def sign_flip(differences: Sequence[float], *, seed: int = 0) -> SignFlip:
    """How often random signs make the sum at least as large, in absolute value, as it is.

    All sign patterns up to `EXACT_UP_TO` differences; beyond that seeded draws, where the observed pattern counts as one
    of them, so that p is never 0.

    Source: Fisher 1935, section 21; the +1 of drawn patterns: Phipson and Smyth 2010, SAGMB 9(1), article 39.
    """
    sizes = [abs(difference) for difference in differences]
    # Sums that are equal on paper differ in the last bits: accuracies are k/n, not exact in binary.
    least = abs(fsum(differences)) - 1e-9 * fsum(sizes)
    if len(sizes) > EXACT_UP_TO:
        return SignFlip(_drawn(sizes, least, seed=seed), is_exact=False)
    sums = [0.0]
    for size in sizes[1:]:  # the first sign is held: the mirrored half has the same absolute sums
        sums = [total + signed for total in sums for signed in (size, -size)]
    reached = sum(abs(total + sizes[0]) >= least for total in sums)
    return SignFlip(reached / len(sums), is_exact=True)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for being one family, step down, in the order given.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.
    """
    corrected = list(p_values)
    highest = 0.0
    ranked = sorted(range(len(p_values)), key=p_values.__getitem__)
    for num_below, index in enumerate(ranked):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - num_below)))
        corrected[index] = highest
    return corrected


def corrected(comparisons: Sequence[Paired]) -> list[Paired]:
    """The comparisons as one family: both p values of each corrected by Holm's procedure, each kind for itself."""
    flips = holm([each.p_flip for each in comparisons])
    t_tests = holm([1.0 if each.p_t is None else each.p_t for each in comparisons])
    return [
        replace(
            each, family=len(comparisons), p_flip_holm=flip, p_holm=None if each.p_t is None else t_test,
        )
        for each, flip, t_test in zip(comparisons, flips, t_tests, strict=True)
    ]  # fmt: skip


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p that two students err equally often, from the questions that only one of them got right.

    Source: McNemar 1947, Psychometrika 12; exact form: the binomial test of the discordant pairs with 1/2.
    """
    n = only_a + only_b
    ways = tail = 1
    # Each coefficient from the one before: 2,500 of them in 5 ms, which takes 0.6 s where each is worked out by itself.
    for k in range(min(only_a, only_b)):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << n))


def bootstrap_mean(
    values: Sequence[float], *, seed: int = 0, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, resampling the values (questions, with all their samples).

    Values that are equal are drawn together: how often each distinct value comes up is multinomial, which is the same
    bootstrap at the price of the distinct values.

    Args:
        values: at least one.
        seed: of the draws.
        level: share left outside, half on each side.

    Source: Efron 1979, Annals of Statistics 7(1); 10,000 draws: our choice, an end then moves by about 1 % of the width.
    """
    import numpy as np

    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=10_000)
    low, high = np.quantile(draws @ distinct / len(values), [level / 2, 1 - level / 2])
    return float(low), float(high)


def questions_needed(only_a: int, only_b: int, n: int, *, level: float = LEVEL) -> int | None:
    """Questions at which McNemar's test would tell this difference with power 0.8; None where there is none.

    Args:
        only_a: questions that one student alone got right.
        only_b: those that the other alone did.
        n: questions that both were asked.
        level: of the test; one of a family of m is told at LEVEL / m at worst (Holm's first step).

    Source: Connor 1987, Biometrics 43(1), for paired proportions; the discordant shares are taken as they were seen.
    """
    difference, discordant = abs(only_b - only_a) / n, (only_a + only_b) / n
    if difference == 0:
        return None
    root = _z(level) * sqrt(discordant) + _Z_POWER * sqrt(max(0.0, discordant - difference**2))
    return ceil((root / difference) ** 2)


def seeds_needed(mean: float, sd: float, *, level: float = LEVEL) -> int | None:
    """Seeds at which the t test of a mean difference would tell it with power 0.8; None where there is none.

    Args:
        mean: of the differences.
        sd: of the differences.
        level: of the test; one of a family of m is told at LEVEL / m at worst (Holm's first step).

    Source: the normal approximation, with 2 seeds more for the t distribution's tails (Guenther 1981, American Statistician 35).
    """
    if mean == 0:
        return None
    return max(SEEDS_NEEDED, ceil(((_z(level) + _Z_POWER) * sd / mean) ** 2) + 2)


def _z(level: float) -> float:
    """The quantile of the normal distribution that leaves half the level above it."""
    return NormalDist().inv_cdf(1 - level / 2)


def _spread(values: Sequence[float], mean: float) -> float:
    """Standard deviation with n - 1; 0 where the values differ by rounding alone."""
    sd = sqrt(fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return sd if sd > 1e-12 * max(map(abs, values)) else 0.0


def _t_test(mean: float, error: float, *, freedom: int) -> tuple[float, float | None]:
    """Half the width of the 95 % interval, and two-sided p of mean 0.

    Without spread there is no such test: equal differences are a sign of a coarse score. p is 1 where all are 0.
    """
    if error == 0:
        return 0.0, 1.0 if mean == 0 else None
    return reach(LEVEL, freedom) * error, two_tails(abs(mean) / error, freedom)


def _drawn(sizes: Sequence[float], least: float, *, seed: int) -> float:
    random = Random(seed)  # noqa: S311 - a test, not a secret
    whole = fsum(sizes)
    reached = 0
    for _ in range(NUM_DRAWS):
        bits = random.getrandbits(len(sizes))
        turned = sum(size for place, size in enumerate(sizes) if bits >> place & 1)
        reached += abs(whole - 2 * turned) >= least
    return (reached + 1) / (NUM_DRAWS + 1)


def _points(share: float) -> str:
    return f"{share * 100:+.2f}"


def _p(p: float | None) -> str:
    return "p unknown" if p is None else "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}"
