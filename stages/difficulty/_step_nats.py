"""The difficulty of steps from the nats of tokens. Source: KPOD Eq. 8; the softmax has no temperature there."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpod.stages._lm.steps import Span
    from kpod.stages.difficulty._scored import Scored


def step_nats(
    scored: Scored, nats: Sequence[float], text: str, steps: Sequence[Span]
) -> list[float]:
    """d_k of every step.

    Args:
        scored: the tokens' spans and weights.
        nats: one a token.
        text: of the rationale.
        steps: at least one, partitioning the text.

    Returns:
        One a step: the mean of its tokens' nats under the softmax of their weights; 0 for a step without a token.
    """
    weights = scored.passage.weights
    return [
        weighted_mean([nats[at] for at in tokens], [weights[at] for at in tokens])
        for tokens in tokens_by_step(scored, text, steps)
    ]


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """The mean of values under the softmax of their weights, in float64; 0 where there are none."""
    if not values:
        return 0.0
    shares = softmax(weights)
    return math.fsum(share * value for share, value in zip(shares, values, strict=True))


def softmax(weights: Sequence[float]) -> list[float]:
    """exp(w) of at least one weight, divided by their sum."""
    top = max(weights)
    powers = [math.exp(weight - top) for weight in weights]
    total = math.fsum(powers)
    return [power / total for power in powers]


def tokens_by_step(scored: Scored, text: str, steps: Sequence[Span]) -> list[list[int]]:
    """Which tokens belong to each step: a token to the one of its first character that is no space.

    A token of nothing but white space belongs to the step it begins in; one of the prompt's own words to none.
    """
    starts = [start for start, _ in steps]
    tokens: list[list[int]] = [[] for _ in steps]
    for at, span in enumerate(scored.spans):
        if span is not None:
            tokens[bisect_right(starts, _first_solid(text, span)) - 1].append(at)
    return tokens


def _first_solid(text: str, span: Span) -> int:
    start, end = span
    return next((at for at in range(start, end) if not text[at].isspace()), start)
