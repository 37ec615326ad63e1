"""Two arms over seeds, paired seed by seed: what the runner's statistics say, as values that a page can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kpod.runner import Method, Series
    from kpod.runner.archive import Archive


class Difference(NamedTuple):
    """Accuracy of the other arm less that of the baseline, under one seed."""

    seed: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """One comparison of two methods.

    Args:
        baseline, other: ids of the arms, with the evaluation where a recipe has several.
        is_primary: whether the recipe names it.
        differences: other minus baseline, as shares (0.01 is one point).
        mean, sd: of the differences, over seeds; None where nothing is paired, sd also where there is one seed.
        low, high: 95 % t interval of the mean; None below two seeds.
        p_t: two-sided t test of mean 0; None below two seeds, and where all differences are the same and not 0.
        p_holm: the same, corrected by Holm for the `family` comparisons of its kind; with the interval it decides.
        p_flip: two-sided sign-flip test; None where nothing is paired.
        is_exact: whether it counts all sign patterns.
        p_flip_holm: the same, corrected likewise.
        family: the recipe's own comparisons are one family, all others another.
        is_claim: whether one method may be called better.
        needed: seeds below which nothing is claimed.
        sentence: what can be said of the two methods.
    """

    baseline: str
    other: str
    is_primary: bool
    differences: tuple[Difference, ...]
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    p_t: float | None
    p_holm: float | None
    p_flip: float | None
    is_exact: bool
    p_flip_holm: float | None
    family: int
    is_claim: bool
    needed: int
    sentence: str


class Compared(NamedTuple):
    """Scores over seeds by name, and the comparisons, the recipe's own first."""

    found: Mapping[str, Series]
    comparisons: tuple[Versus, ...]


def compare(by_seed: Mapping[int, Archive], primary: Sequence[str]) -> Compared:
    """The arms of the recipe's comparison against its baseline, then all others against it.

    Raises:
        KpodError: a file is gone from an archive.
    """
    from kpod.runner import SEEDS_NEEDED, compare_all, series_of

    found = series_of(by_seed)
    if not found:
        return Compared(found, ())
    named, others = compare_all(found, primary)
    return Compared(
        found,
        (
            *(_versus(method, is_primary=True, needed=SEEDS_NEEDED) for method in named),
            *(_versus(method, is_primary=False, needed=SEEDS_NEEDED) for method in others),
        ),
    )


def _versus(method: Method, *, is_primary: bool, needed: int) -> Versus:
    result = method.result
    return Versus(
        baseline=method.a,
        other=method.b,
        is_primary=is_primary,
        differences=tuple(
            Difference(seed, right - left) for seed, (left, right) in method.scores.items()
        ),
        mean=None if result is None else result.mean,
        sd=None if result is None else result.sd,
        low=None if result is None else result.low,
        high=None if result is None else result.high,
        p_t=None if result is None else result.p_t,
        p_holm=None if result is None else result.p_holm,
        p_flip=None if result is None else result.p_flip,
        is_exact=result is not None and result.is_exact,
        p_flip_holm=None if result is None else result.p_flip_holm,
        family=1 if result is None else result.family,
        is_claim=result is not None and result.is_claim,
        needed=needed,
        sentence=method.sentence,
    )
