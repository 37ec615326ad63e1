"""A rationale cut into stretches by weight, as the page shades them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kpod.runner import TokenWeights

# As much of a text as is shaded: every stretch is a tag of its own.
_MOST_CHARACTERS = 1000


class Piece(NamedTuple):
    """A stretch of text.

    Args:
        weight: in [0, 1], rounded to three digits; None for text that has none.
        third: 1, 2 or 3: among the lowest, middle or highest third of its stage's weights; 0 where all weights are equal.
    """

    text: str
    weight: float | None
    third: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Thirds:
    """Where a stage's weights divide into thirds.

    Args:
        low, high: the weights at 1/3 and 2/3 of all, in order; equal where one value takes so much.
        least, most: the ends.
    """

    low: float
    high: float
    least: float
    most: float

    def of(self, weight: float) -> int:
        """1, 2 or 3; 0 where all weights are equal. The least is always 1, the most always 3."""
        if self.least == self.most:
            return 0
        if weight > self.high or round(weight, 3) >= self.most:
            return 3
        return 1 if weight <= self.low else 2


def pieces(
    text: str, row: TokenWeights, thirds: Thirds, *, start: int = 0, end: int | None = None
) -> tuple[Piece, ...]:
    """The text from start to end in stretches; what lies beyond a page's patience is told, not shown.

    Args:
        text: the whole rationale.
        row: its weights; spans that do not fit the text are cut to it.
        thirds: of the stage.
        start: first character.
        end: after the last character; None: to the end of the text.
    """
    stop = len(text) if end is None else end
    shown = min(stop, start + _MOST_CHARACTERS)
    found = tuple(_between(text, row, thirds, start, shown))
    if shown == stop:
        return found
    return (*found, Piece(f" [… {stop - shown:,} characters left out …]", None, 0))


def _between(text: str, row: TokenWeights, thirds: Thirds, start: int, end: int) -> Iterator[Piece]:
    at = start
    for first, last, weight in _inside(row, start, end):
        if first > at:
            yield Piece(text[at:first], None, 0)
        yield Piece(text[first:last], round(weight, 3), thirds.of(weight))
        at = last
    if at < end:
        yield Piece(text[at:end], None, 0)


def _inside(row: TokenWeights, start: int, end: int) -> Iterator[tuple[int, int, float]]:
    """The spans between two places, one after the other, each character in one of them."""
    at = start
    spans: Sequence[tuple[int, int]] = row.spans
    for (first, last), weight in zip(spans, row.weights, strict=False):
        low, high = max(first, at), min(last, end)
        if low < high:
            yield low, high, weight
            at = high
