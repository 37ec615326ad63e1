"""What a sweep allows to say, in words: a difference with its interval, and a winner only where the seeds bear one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kpod.stages.report._formats import plural, points, signed
from kpod.stages.report._versus import Versus


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One sentence, and what has to be said with it."""

    claim: str
    details: tuple[str, ...]


_PAIRED = (
    "Arms are paired by seed: with one seed they share initialisation and the order of the data. This speaks of the methods on"
    " these questions, not of single students."
)


def verdict_of(comparisons: Sequence[Versus], *, num_seeds: int, num_arms: int) -> Verdict:
    """The answer to the comparison that the recipe names; without one, that there is none.

    Args:
        comparisons: the recipe's own first.
        num_seeds: runs of the sweep.
        num_arms: evaluated arms.
    """
    seeds = plural(num_seeds, "seed")
    if not num_arms:
        return Verdict(claim=f"No score: {seeds}, and nothing was evaluated.", details=())
    if not comparisons:
        return Verdict(
            claim=f"One arm over {seeds}: there is nothing to compare it with.",
            details=("How much its accuracy varies with the seed stands below.",),
        )
    named = [each for each in comparisons if each.is_primary]
    if not named:
        return Verdict(
            claim=f"{plural(num_arms, 'arm')} over {seeds}; the recipe names no comparison, so none is answered here.",
            details=(
                "Set compare.primary in the recipe, its baseline first. All comparisons below are corrected for each other.",
                _PAIRED,
            ),
        )
    first, *rest = named
    return Verdict(claim=claim_of(first), details=(*(claim_of(each) for each in rest), _PAIRED))


def claim_of(versus: Versus) -> str:
    """The difference with its interval and number of seeds; a winner where there is one."""
    a, b = versus.baseline, versus.other
    if versus.mean is None:
        return f"{versus.sentence[:1].upper()}{versus.sentence[1:]}."
    n = len(versus.differences)
    figures = f"{b} − {a} is {points(versus.mean, 2)}, {interval(versus)}, n = {plural(n, 'seed')}."
    if n < versus.needed:
        return f"No claim about {b} against {a}: {versus.needed} seeds are needed. So far {figures}"
    if versus.is_claim:
        winner, loser = (b, a) if versus.mean > 0 else (a, b)
        ahead = versus if versus.mean > 0 else _turned(versus)
        assert ahead.mean is not None
        return f"{winner} is better than {loser} by {points(ahead.mean, 2).lstrip('+')}, {interval(ahead)}, n = {plural(n, 'seed')}."
    if versus.low is not None and versus.high is not None and versus.low <= 0 <= versus.high:
        return f"No winner between {a} and {b}: {figures}"
    return (
        f"No winner between {a} and {b} once corrected for {versus.family} comparisons: {figures}"
    )


def _turned(versus: Versus) -> Versus:
    """The same with its sign turned: the baseline less the other arm."""
    assert versus.mean is not None
    assert versus.low is not None
    assert versus.high is not None
    return replace(versus, mean=-versus.mean, low=-versus.high, high=-versus.low)


def interval(versus: Versus) -> str:
    """`95 % t interval [−0.41, +2.80]`, in points."""
    if versus.low is None or versus.high is None:
        return "without an interval"
    return f"95 % t interval [{signed(versus.low, 2)}, {signed(versus.high, 2)}]"
