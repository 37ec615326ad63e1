"""How figures are written for people: a share never without its count and interval, a time in units one can picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from kpod.stages._lm.statistics import wilson_interval

# Between a number and its unit, so that the two stay on one line.
_SPACE = "\N{NO-BREAK SPACE}"
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of so many.

    Args:
        count, total: of which; total >= 1.
        value: count / total, in [0, 1].
        low, high: 95 % Wilson interval of the value.
    """

    count: int
    total: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> Share | None:
        """The share with its interval; None where there is nothing to take a share of."""
        if total == 0:
            return None
        low, high = wilson_interval(count, total)
        return cls(count=count, total=total, value=count / total, low=low, high=high)


def percent(share: float) -> str:
    """`0.5833` as `58.3 %`."""
    return f"{100 * share:.1f}{_SPACE}%"


def bounds(share: Share) -> str:
    """The interval in percent: `[45.7, 69.9]`."""
    return f"[{100 * share.low:.1f},{_SPACE}{100 * share.high:.1f}]"


def in_words(share: Share) -> str:
    """`58.3 % [45.7, 69.9], n = 60`."""
    return f"{percent(share.value)} {bounds(share)}, n{_SPACE}={_SPACE}{share.total}"


def duration(seconds: float) -> str:
    """A time with two digits that matter: `0.03 s`, `17.0 s`, `1 min 15 s`, `2 h 05 min`."""
    if seconds < 1:
        return f"{seconds:.2f}{_SPACE}s"
    if seconds < 59.95:
        return f"{seconds:.1f}{_SPACE}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{_SPACE}min{_SPACE}{whole % 60:02d}{_SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{_SPACE}h{_SPACE}{minutes % 60:02d}{_SPACE}min"


def count(number: float) -> str:
    """A count with its thousands apart: `12,345`; other numbers with at most four digits that matter."""
    if float(number).is_integer():
        return f"{int(number):,}"
    return f"{number:,.1f}" if abs(number) >= 100 else f"{number:.4g}"


def usd(amount: float) -> str:
    """US dollars with at least two digits that matter: `$12.30`, `$0.0042`, `$0`."""
    if amount == 0:
        return "$0"
    return f"${amount:,.2f}" if amount >= 0.1 else f"${amount:.2g}"


def p_value(p: float) -> str:
    """`p = 0.774`, or `p < 0.001`."""
    return f"p{_SPACE}<{_SPACE}0.001" if p < 0.001 else f"p{_SPACE}={_SPACE}{p:.3f}"


def points(difference: float, digits: int = 1) -> str:
    """A difference of two shares: `+3.3 points`."""
    return f"{signed(difference, digits)}{_SPACE}points"


def signed(difference: float, digits: int = 1) -> str:
    """A difference of two shares in points, without the word: `−0.4`."""
    shown = round(100 * difference, digits) + 0.0  # -0.0 becomes 0.0
    return f"{shown:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def few(names: list[str]) -> str:
    """As `listed`, but of more than three names the first two and how many more there are."""
    return listed(names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"])


def plural(number: int, noun: str) -> str:
    """`1 question`, `1,319 questions`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def times(ratio: float) -> str:
    """A multiple of another figure: `× 0.87`."""
    return f"×{_SPACE}{ratio:.2f}"


def thinned(items: Sequence[ItemT], most: int) -> list[ItemT]:
    """All of them or, of many, as many as wanted, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
