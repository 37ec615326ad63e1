"""Weights of a rationale's characters on the tokens of any tokenizer, and back (DESIGN 4: TokenWeights).

A token weighs the mean of the spans under it, each counted by its non-space characters; the tokenizer that made the
weights gets exactly its own back. Tokens that share a character (bytes of one sign) share one span.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

from kpod.runner import Rationale, StageError, TokenWeights
from kpod.stages._lm.joining import by_rationale, shelved
from kpod.stages._lm.shelf import Shelf

Span = tuple[int, int]
WEIGHT_ROWS = "token weights"


def token_weights(
    rationale_id: str, spans: Sequence[Span], weights: Sequence[float], *, text: str = ""
) -> TokenWeights:
    """The record of one rationale's token weights.

    Args:
        rationale_id: whose they are.
        spans: characters (start, end) of each token, in order; those that overlap become one.
        weights: one a token, in [0, 1].
        text: the rationale's, where its tokenizer may leave characters out (T5 drops zero-width signs): each of them
            that is no space joins the span before it, at the very beginning the one after it.

    Returns:
        With disjoint spans; tokens that share a span got the mean of their weights.
    """
    merged: list[tuple[int, int, list[float]]] = []
    for (start, end), weight in zip(spans, weights, strict=True):
        if merged and start < merged[-1][1]:
            first, last, values = merged[-1]
            merged[-1] = (first, max(last, end), [*values, weight])
        else:
            merged.append((start, end, [weight]))
    return TokenWeights(
        rationale_id=rationale_id,
        spans=_covering(text, [(start, end) for start, end, _ in merged]),
        weights=tuple(values[0] if len(values) == 1 else math.fsum(values) / len(values) for *_, values in merged),
    )  # fmt: skip


def _covering(text: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    """Disjoint spans, made longer so that they cover every character of the text that is no space."""
    covering = list(spans)
    for index, (start, end) in enumerate(spans):
        is_last = index + 1 == len(spans)
        gap = text[end : None if is_last else spans[index + 1][0]].rstrip()
        lead = text[:start].lstrip() if index == 0 else ""
        covering[index] = (start - len(lead), end + len(gap))
    return tuple(covering)


def weights_by_rationale(
    weights: Iterable[TokenWeights], rationales: Iterable[Rationale]
) -> dict[str, TokenWeights]:
    """The weights of each of these rationales, by id, checked against its text.

    Weights of rationales that are not among these are passed over: a filter may come after a weighting.

    Raises:
        StageError: a rationale has no weights, or weights that do not fit its text.
    """
    texts = list(rationales)
    found = by_rationale(weights, texts, what=WEIGHT_ROWS)
    for rationale in texts:
        check_weights(found[rationale.id], rationale.text)
    return found


def shelved_weights(weights: Iterable[TokenWeights], *, folder: Path) -> Shelf[TokenWeights]:
    """Weights on disk, by the id of their rationale; whoever reads a row checks it.

    Raises:
        StageError: a rationale has weights twice.
    """
    return shelved(weights, what=WEIGHT_ROWS, record=TokenWeights, folder=folder)


def check_weights(weights: TokenWeights, text: str) -> None:
    """Raise a StageError where weights do not fit the text they are for."""
    told = f"token weights of rationale {weights.rationale_id}"
    advice = "make them again from this rationale; offsets count characters of its text, from 0"
    if len(weights.spans) != len(weights.weights):
        raise StageError(
            f"{told}: {len(weights.spans)} spans, but {len(weights.weights)} weights\n{advice}"
        )
    at = 0
    for (start, end), weight in zip(weights.spans, weights.weights, strict=True):
        if not at <= start < end <= len(text):
            raise StageError(
                f"{told}: span [{start}, {end}] is not in order within a text of {len(text)} characters\n{advice}"
            )
        if not 0.0 <= weight <= 1.0:
            raise StageError(
                f"{told}: span [{start}, {end}] weighs {weight}; allowed: 0 to 1\n{advice}"
            )
        _check_gap(text, at, start, told, advice)
        at = end
    _check_gap(text, at, len(text), told, advice)


def _check_gap(text: str, start: int, end: int, told: str, advice: str) -> None:
    gap = text[start:end]
    if gap.strip():
        raise StageError(f"{told}: {gap.strip()[:20]!r} at {start} has no weight\n{advice}")


class Projection:
    """Weights of one rationale, asked for by any tokenizer's spans."""

    def __init__(self, weights: TokenWeights, text: str) -> None:
        self._spans = weights.spans
        self._weights = weights.weights
        self._starts = [start for start, _ in weights.spans]
        # Non-space characters before each offset.
        self._solid = [0, *accumulate(not character.isspace() for character in text)]

    def weight(self, span: Span) -> float:
        """The weight of a token that covers these characters.

        A token of nothing but white space weighs as the span it lies in, else as the next one, else as the last.
        """
        start, end = span
        first = max(0, bisect_right(self._starts, start) - 1)
        if self._spans[first][1] <= start and first + 1 < len(self._spans):
            first += 1
        if self._spans[first][1] >= end or self._count(start, end) == 0:
            return self._weights[first]
        shares: list[tuple[int, float]] = []
        for index in range(first, len(self._spans)):
            left, right = self._spans[index]
            if left >= end:
                break
            shares.append((self._count(max(left, start), min(right, end)), self._weights[index]))
        covered = [(count, weight) for count, weight in shares if count]
        if len(covered) == 1:
            return covered[0][1]
        return math.fsum(count * weight for count, weight in covered) / sum(
            count for count, _ in covered
        )

    def _count(self, start: int, end: int) -> int:
        """Non-space characters between two offsets."""
        return self._solid[end] - self._solid[start]


def project(
    weights: TokenWeights, text: str, spans: Sequence[Span | None], *, outside: float = 1.0
) -> tuple[float, ...]:
    """The weight of each token of a text.

    Args:
        weights: checked against the text.
        text: the rationale's.
        spans: the characters each token covers; None for one that is not of the rationale.
        outside: what such a token weighs; 1 is our choice for the template, and the paper's for the answer.
    """
    projection = Projection(weights, text)
    return tuple(outside if span is None else projection.weight(span) for span in spans)
