"""Where numbers and signs of arithmetic stand in a text: the stretches that the paper finds weighed most (KPOD Fig. 2)."""

from __future__ import annotations

import re

_RUN = re.compile(r"[0-9.,+\-*/=%$×÷−]+")
_LETTER = re.compile(r"[^\W\d_]")


def number_runs(text: str) -> list[tuple[int, int]]:
    """Characters (start, end) of maximal runs of digits and of + - * / = % $ × ÷ −, in order.

    A point or comma belongs to a run only inside of it ("1,200.50" but not the full stop of "12."); a hyphen or slash
    between letters ("well-known", "and/or") is no operator.
    """
    runs: list[tuple[int, int]] = []
    for match in _RUN.finditer(text):
        kept = match[0].strip(".,")
        start = match.start() + match[0].find(kept) if kept else match.start()
        end = start + len(kept)
        if kept and not _joins_words(text, start, end):
            runs.append((start, end))
    return runs


def _joins_words(text: str, start: int, end: int) -> bool:
    """Whether this is a sign between two letters."""
    if text[start:end] not in {"-", "/"} or start == 0 or end == len(text):
        return False
    return bool(_LETTER.match(text[start - 1]) and _LETTER.match(text[end]))


def number_stretches(text: str) -> list[tuple[tuple[int, int], bool]]:
    """All of a text but white space between runs: each stretch, and whether it is a run of `number_runs`."""
    stretches: list[tuple[tuple[int, int], bool]] = []
    at = 0
    for start, end in [*number_runs(text), (len(text), len(text))]:
        rest = text[at:start]
        if rest.strip():
            first = at + len(rest) - len(rest.lstrip())
            stretches.append(((first, at + len(rest.rstrip())), False))
        if end > start:
            stretches.append(((start, end), True))
        at = end
    return stretches
