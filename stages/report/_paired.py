"""Two arms on the same questions: what one fixes and what it breaks, and whether chance alone would do that.

Speaks of these two models and these questions, never of a method: that takes several seeds (DESIGN 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from kpod.runner import holm, mcnemar

# Beyond this many arms, each is compared with the baseline (or the first) only: the table stays readable and Holm's price low.
_ALL_PAIRS_UP_TO = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One arm beside another on the questions that both answered.

    Args:
        baseline, other: names of the arms.
        n: questions that both were scored on.
        num_fixed: baseline wrong, other right.
        num_broken: baseline right, other wrong.
        p: two-sided exact McNemar test.
        p_holm: the same, corrected for the number of pairs in its family (the recipe's primary ones, or the rest).
        is_primary: whether it belongs to the comparison that the recipe names.
    """

    baseline: str
    other: str
    n: int
    num_fixed: int
    num_broken: int
    p: float
    p_holm: float
    is_primary: bool


def compare_arms(
    verdicts: Mapping[str, Mapping[str, bool | None]], primary: Sequence[str]
) -> tuple[Pair, ...]:
    """The recipe's primary pairs first, then the others.

    Args:
        verdicts: for each arm, in the order of the recipe: question id -> whether it was right (None: no gold answer).
        primary: arms of the primary comparison, its baseline first; may be empty.
    """
    arms = list(verdicts)
    named = [arm for arm in primary if arm in verdicts]
    first = [(named[0], other) for other in named[1:]]
    start = (named or arms)[0]
    everything = (
        combinations(arms, 2)
        if len(arms) <= _ALL_PAIRS_UP_TO
        else ((start, other) for other in arms if other != start)
    )
    known = {frozenset(pair) for pair in first}
    rest = [pair for pair in everything if frozenset(pair) not in known]
    return (
        *_family(verdicts, first, is_primary=True),
        *_family(verdicts, rest, is_primary=False),
    )


def _family(
    verdicts: Mapping[str, Mapping[str, bool | None]],
    names: Sequence[tuple[str, str]],
    *,
    is_primary: bool,
) -> list[Pair]:
    pairs = [
        pair
        for baseline, other in names
        if (pair := _pair(verdicts, baseline, other, is_primary=is_primary)).n
    ]
    corrected = holm([pair.p for pair in pairs])
    return [replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True)]


def _pair(
    verdicts: Mapping[str, Mapping[str, bool | None]],
    baseline: str,
    other: str,
    *,
    is_primary: bool,
) -> Pair:
    theirs = verdicts[other]
    both = [
        (was_right, theirs[question])
        for question, was_right in verdicts[baseline].items()
        if was_right is not None and theirs.get(question) is not None
    ]
    num_fixed = sum(not before and bool(after) for before, after in both)
    num_broken = sum(before and not after for before, after in both)
    p = mcnemar(num_fixed, num_broken)
    return Pair(
        baseline=baseline, other=other, n=len(both), num_fixed=num_fixed, num_broken=num_broken,
        p=p, p_holm=p, is_primary=is_primary,
    )  # fmt: skip
