r"""Which number a statement claims: "20 - 5 = 15" claims 15, "not 12 but 15" claims 15, "12 or 15" claims nothing.

Source: PRACTICE section 5 and row 15; the cases behind a rule are named beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from kpod.stages._lm.evidence import Extracted, NoAnswer, Stretch
from kpod.stages._lm.numbers import Number, agree, find_numbers, written

# "3 apples + 5 apples =": what may stand between two numbers of one calculation.
_CALCULATION = re.compile(
    r"[\s)\]}]*(?:[A-Za-z]+(?:[\s)]+[A-Za-z]+){0,3}[\s)]*)?"
    r"(?P<operator>[-−–+*/×÷·=^]|x|X|\\times|\\div|\\cdot)[\s({\[]*"
)
_JOINED = re.compile(r"[^.;\n]{0,60}\bor\b|\s*(?:,|;|and|\\text\{\s*and\s*\})\s*$")
_NOT = re.compile(r"(?:\bnot|n't)\b[^.;]*$", re.IGNORECASE)
_INSTEAD = re.compile(r"\b(?:but|rather|instead|it's|it\s+is)\b", re.IGNORECASE)
# OpenCompass #2647: "#### 1. Add the apples" is a heading, "#### 18." is an answer.
_HEADING_TAIL = re.compile(r"[.):]\s+\S|[.):]\S")
_WORD = re.compile(r"[A-Za-z]+")
# What the number reader cannot value, so that a box with it has no certain value (Math-Verify #37).
_BEYOND = re.compile(r"\\(?:sqrt|pi|[dt]?frac|log|ln|sin|cos|binom)")


def claimed_number(text: str, stretch: Stretch, choices: Sequence[str] | None) -> Extracted | None:
    """The number that a stretch states; None where it holds none.

    Raises:
        NoAnswer: it holds two at once, or one that has no certain value.
    """
    del choices
    numbers = list(find_numbers(text, stretch.start, stretch.end))
    if not numbers:
        return None
    pick = {"hash": _hashed, "boxed": _boxed, "phrase": _phrased}[stretch.rule]
    number = pick(text, stretch, numbers)
    return _as_extracted(number, stretch.rule) if number else None


def last_number(text: str, choices: Sequence[str] | None) -> Extracted | None:
    """From a text that states no answer: its last number, or the one before it that repeats the last result.

    "353 - 38 = 315. So Paul has 315 crayons, 38 fewer than before." ends on 315. Measured on real rationales of four models: 83 of
    1,953 more are read right, and none of 6,595 with a flag of their own becomes right by mistake.
    """
    del choices
    start = _last_sentence(text)
    ending = list(find_numbers(text, start))
    if not ending:
        last: Number | None = None
        for number in find_numbers(text, 0, start):
            last = number
        return _as_extracted(last, "last_number") if last else None
    equals = text.rfind("=", 0, start)
    if len(ending) > 1 and equals >= 0 and "=" not in text[start:]:
        result = next(find_numbers(text, equals + 1, start), None)
        repeated = [number for number in ending if result and agree(number, result)]
        if repeated:
            return _as_extracted(repeated[0], "conclusion")
    return _as_extracted(ending[-1], "last_number")


def _last_sentence(text: str) -> int:
    """Where the last sentence or line begins."""
    end = len(text.rstrip())
    ends = (text.rfind(mark, 0, end) for mark in (". ", "! ", "? "))
    return max(text.rfind("\n", 0, end) + 1, *(place + 2 for place in ends if place >= 0), 0)


def _as_extracted(number: Number, rule: str) -> Extracted:
    if number.value is None:
        raise NoAnswer
    return Extracted(value=written(number), rule=rule, span=number.span)


def _hashed(text: str, stretch: Stretch, numbers: list[Number]) -> Number | None:
    """The number right after `####`; a heading such as `#### Step 2` or `#### 1. Add` has none."""
    first = numbers[0]
    if text[stretch.start : first.span[0]].strip(" \t*$:=\\boxed{(~"):
        return None
    return None if _HEADING_TAIL.match(text, first.span[1], stretch.end) else first


def _boxed(text: str, stretch: Stretch, numbers: list[Number]) -> Number | None:
    """What a box ends on after its last "=", else its first number; two that are joined are no answer."""
    for sign in ("=", "≈", "\\approx"):
        after = text.rfind(sign, stretch.start, stretch.end)
        numbers = [number for number in numbers if number.span[0] > after] or numbers
    spans = [number.span for number in numbers]
    for beyond in _BEYOND.finditer(text, stretch.start, stretch.end):
        if not any(start <= beyond.start() < end for start, end in spans):
            raise NoAnswer
    if len(numbers) > 1 and not agree(*numbers[:2]):
        gap = text[numbers[0].span[1] : numbers[1].span[0]]
        if _JOINED.match(gap) or _CALCULATION.fullmatch(gap):
            raise NoAnswer
    return numbers[0]


def _phrased(text: str, stretch: Stretch, numbers: list[Number]) -> Number | None:
    """The number that an answer phrase claims (HELM #4337, OPD-V #2).

    Where a sentence rather than a number follows the phrase: its last "= N", else its last number.
    """
    before = text[stretch.start : numbers[0].span[0]]
    if _NOT.search(before):
        numbers = numbers[1:] if _is_corrected(text, numbers) else []
        if not numbers:
            return None
        before = ""
    if len(_WORD.findall(before)) > (0 if stretch.follows in {"answer:", "a:"} else 4):
        after_equals = [b for a, b in pairwise(numbers) if "=" in text[a.span[1] : b.span[0]]]
        return (after_equals or numbers)[-1]
    claimed, index = _end_of_calculation(text, numbers)
    for other in numbers[index + 1 : index + 2]:
        gap = text[claimed.span[1] : other.span[0]]
        if re.search(r"\bor\b", gap) and not agree(claimed, other):
            raise NoAnswer
    return claimed


def _is_corrected(text: str, numbers: list[Number]) -> bool:
    """Whether "not 12" goes on to say what it is: "but 15"."""
    if len(numbers) < 2:
        return False
    return bool(_INSTEAD.search(text, numbers[0].span[1], numbers[1].span[0]))


def _end_of_calculation(text: str, numbers: list[Number]) -> tuple[Number, int]:
    """The first number, or what the calculation that starts with it comes to; one without a result is no answer."""
    result, index, is_open = numbers[0], 0, False
    for i, (left, right) in enumerate(pairwise(numbers), start=1):
        gap = _CALCULATION.fullmatch(text[left.span[1] : right.span[0]].replace("$", ""))
        if gap is None:
            break
        is_open = gap["operator"] != "="
        if not is_open:
            result, index = right, i
    if is_open and index == 0:
        raise NoAnswer
    return result, index
