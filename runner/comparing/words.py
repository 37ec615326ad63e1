"""Two texts in one: what is gone in [-brackets-], what is new in {+braces+}, as `git diff --word-diff` shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
# Comparing takes the square of the words: 2,000 are compared in less than a second, a text of 100 kB would take minutes.
_MOST_WORDS = 2000


class Piece(NamedTuple):
    """A stretch of two texts: in both, in the first alone, or in the second alone."""

    kind: Literal["both", "gone", "new"]
    text: str


def word_diff(before: str, after: str) -> str:
    """Both texts, word by word.

    Args:
        before: any text; what comes out without what stands in braces.
        after: any text; what comes out without what stands in brackets.
    """
    marks = {"both": "{}", "gone": "[-{}-]", "new": "{{+{}+}}"}
    return "".join(marks[piece.kind].format(piece.text) for piece in word_pieces(before, after))


def word_pieces(before: str, after: str) -> Iterator[Piece]:
    """The stretches in order; very long texts are not compared, but told one after the other."""
    left, right = _WORD.findall(before), _WORD.findall(after)
    if before != after and max(len(left), len(right)) > _MOST_WORDS:
        yield Piece("gone", before)
        yield Piece("new", after)
        return
    for kind, a_from, a_to, b_from, b_to in SequenceMatcher(
        None, left, right, autojunk=False
    ).get_opcodes():
        gone, new = "".join(left[a_from:a_to]), "".join(right[b_from:b_to])
        if kind == "equal":
            yield Piece("both", gone)
            continue
        if gone:
            yield Piece("gone", gone)
        if new:
            yield Piece("new", new)
