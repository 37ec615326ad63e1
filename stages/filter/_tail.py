r"""Cut the sentence that only states the answer off the end of a rationale; the student's template adds its own.

    without_answer("16 - 7 = 9, and 9 * 2 = 18.\nTherefore, the answer is 18.")  ->  "16 - 7 = 9, and 9 * 2 = 18."

Only at the end, and only what holds no reasoning: "So she makes 9 * 2 = 18 dollars." stays.
Source: DESIGN 4, "The filter strips a trailing answer phrase from rationales".
"""

from __future__ import annotations

import re

# What may stand in an answer: short, one clause, no calculation.
_MAX_TAIL = 240
_CLAIM = r"(?:[^\n=+×÷,.;]|[.,](?=[0-9])){0,60}"
_LEAD = (
    r"(?:(?:therefore|thus|so|hence|then|finally|consequently|and|in\s+conclusion|in\s+summary|to\s+sum\s+up|overall)"
    r"\b[,:]?[ \t]*){0,3}"
)
_END = r"[\s*_#$\\\])}.!]*\Z"
_BOX = r"[$\\(\[*\s]*\\f?boxed\s*\{[^\n]{0,80}\}[$\\)\]*.\s]*\Z"
_TAILS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # "#### 18"
        rf"(?:^|\n)[ \t]*####[ \t]*{_CLAIM}{_END}",
        # "Therefore, the final answer (in dollars) is: 18.", "**Answer:** 18", "Final Answer\n18"
        rf"(?:^|\n|(?<=[.!?:;,])[ \t*]+)[*_#> \t]*{_LEAD}(?:(?:the|our|my|your)\s+)?(?:correct\s+|final\s+)*answer\b"
        rf"[^\n.=]{{0,60}}?(?:\bis\b|\bwould\s+be\b|:|\Z|[*_ \t]*\n)[*_:\s]*{_CLAIM}{_END}",
        # "A: 18" as OpenAI's solutions end
        rf"(?:^|\n)[ \t]*A:[ \t]*[^\n a-z]{{1,40}}(?:[ \t][^\W\d]+){{0,3}}{_END}",
        # a box by itself; one that ends a sentence stays with it
        rf"(?:^|(?<=[.!?\])0-9]))\s*{_BOX}",
    )
)


def without_answer(text: str) -> str:
    """The text without the answer phrases it ends on, and without white space at its end."""
    text = text.rstrip()
    for _ in range(4):
        shorter = _once(text)
        if shorter == text:
            break
        text = shorter
    return text


def _once(text: str) -> str:
    offset = max(0, len(text) - _MAX_TAIL)
    # A cut in the middle of a line must not look like the beginning of one.
    tail = text[offset:] if not offset else "\x00" + text[offset:]
    shift = offset - (1 if offset else 0)
    starts = [match.start() for pattern in _TAILS if (match := pattern.search(tail))]
    if not starts:
        return text
    return text[: max(0, min(starts) + shift)].rstrip().rstrip(",;:").rstrip()
