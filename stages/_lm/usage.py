"""Tokens that several texts cost together. A rationale's usage is for all the samples that it stands for (`count`)."""

from __future__ import annotations

from kpod.runner import Usage


def sum_of_usage(left: Usage | None, right: Usage | None) -> Usage | None:
    """What both cost together; None, whole or by number, as soon as one was not counted."""
    if left is None or right is None:
        return None
    return Usage(
        prompt_tokens=_sum(left.prompt_tokens, right.prompt_tokens),
        completion_tokens=_sum(left.completion_tokens, right.completion_tokens),
    )


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right
