"""Two texts in one: what is gone in [-brackets-], what is new in {+braces+}, as `git diff --word-diff` shows it."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_WORD = re.compile(r"\s+|\w+|[^\w\s]")


def word_diff(before: str, after: str) -> str:
    """Both texts, word by word.

    Args:
        before: any text; what comes out without what stands in braces.
        after: any text; what comes out without what stands in brackets.
    """
    left, right = _WORD.findall(before), _WORD.findall(after)
    said = []
    for kind, a_from, a_to, b_from, b_to in SequenceMatcher(
        None, left, right, autojunk=False
    ).get_opcodes():
        gone, new = "".join(left[a_from:a_to]), "".join(right[b_from:b_to])
        if kind == "equal":
            said.append(gone)
        else:
            said.append(f"[-{gone}-]" * bool(gone) + f"{{+{new}+}}" * bool(new))
    return "".join(said)
