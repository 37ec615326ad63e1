"""Sequences split into runs of like length that are padded together: what training and generation compute at once."""

from __future__ import annotations

from collections.abc import Sequence


def cheapest_runs(
    sides: Sequence[tuple[int, int]], *, most_tokens: int, run_tokens: float
) -> list[list[int]]:
    """The cheapest split into runs of the sequences sorted by length: padded tokens, and so many more a run.

    Args:
        sides: tokens that the encoder (0: there is none) and the decoder read of each sequence.
        most_tokens: of a run, padding included; a sequence longer than that stands alone.
        run_tokens: what a run costs beside its tokens, >= 0.

    Returns:
        Indices into `sides`, shortest run first; every index once.
    """
    order = sorted(range(len(sides)), key=lambda index: (sum(sides[index]), index))
    cost = [0.0] + [0.0] * len(order)
    first_of = [0] * (len(order) + 1)
    for stop in range(1, len(order) + 1):
        encoder = decoder = 0
        choices = []
        for start in range(stop - 1, -1, -1):
            encoder = max(encoder, sides[order[start]][0])
            decoder = max(decoder, sides[order[start]][1])
            padded = (stop - start) * (encoder + decoder)
            if padded > most_tokens and stop - start > 1:
                break
            choices.append((cost[start] + padded + run_tokens, start))
        cost[stop], first_of[stop] = min(choices)
    runs: list[list[int]] = []
    stop = len(order)
    while stop:
        runs.append(order[first_of[stop] : stop])
        stop = first_of[stop]
    return runs[::-1]
