"""Check the calculations that a text writes out: every "= N" against what stands before it.

    first_wrong("He pays 3 * $4 = $12, so 20 - 12 = $9 are left.")   # the second one: 20 - 12 is not 9

A wrong step in a rationale teaches a wrong step, even where the answer comes out right. Whole expressions are read
(chains, brackets, percent, units), by a parser over exact fractions; nothing is evaluated as code. What cannot be read with
certainty (a variable, a word between the numbers) is not flagged, and neither is what holds under any usual reading.
Tolerance: half a unit of the last printed digit of the right side. Source: DESIGN 4 and issue 1/5, item 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from kpod.stages.filter._expression import (
    Reading,
    Unclear,
    parse_exactly,
    parse_longest,
)
from kpod.stages.filter._tokens import Token, lines_of_tokens, word_set

# A calculation of more tokens is no sentence of a person; the bound keeps the whole linear.
_MAX_TOKENS = 80
# "twice 5 + 3", "half of 10 * 2", "remaining - 5": words that take part in the calculation.
_CALCULATING = word_set(
    "times twice thrice half double triple quarter third plus minus less more by over per dozen"
    " divided multiplied squared cubed percent hundred thousand million root between than"
)
_ARTICLES = word_set("the a an his her their its these those")
_PARTS = word_set("half third fourth fifth sixth seventh eighth ninth tenth quarter percent each")
# "Weeks 1-2 = ", "day 1 * 2 =": the number is a name.
_LABELS = word_set(
    "day days week weeks month months year years step case part room box game group player option stage level"
    " page pages round question number plan chapter chapters grade"
)
# "17 / 3 = 5 remainder 2", "2 * 500 = 1 thousand", "60 * 2 = about 100"
_QUALIFIED = word_set(
    "remainder r with rem dozen hundred thousand million billion k m trillion pairs percent"
    " half and or quarter pi"
)
# One side in minutes and the other in hours is a conversion, not a mistake. A line a dimension, a group a unit.
_DIMENSIONS = (
    "s sec second seconds | min mins minute minutes | h hr hrs hour hours | day days | week weeks | month months"
    " | year years | decade decades | century centuries",
    "mm | cm centimeter centimeters | m meter meters | km kilometer kilometers | in inch inches | foot feet ft"
    " | yard yards | mile miles",
    "mg | g gram grams | kg kilogram kilograms kilo kilos | oz ounce ounces | lb lbs pound pounds | ton tons",
    "oz ounce ounces | ml | l liter liters litre litres | cup cups | pint pints | quart quarts | gallon gallons"
    " | tablespoon tablespoons | teaspoon teaspoons",
    "$ dollar dollars | ¢ cent cents penny pennies | nickel nickels | dime dimes | quarter quarters",
    "mb | gb | kb | tb",
)
_UNIT_OF = tuple(
    {name: group for group in line.split("|") for name in group.split()} for line in _DIMENSIONS
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """One equation of a text.

    Args:
        span: characters of the text, from the first number on the left to the last on the right.
        left, right: what the sides come to.
        holds: whether they agree, within half a unit of the last digit printed on the right.
    """

    span: tuple[int, int]
    left: Fraction
    right: Fraction
    holds: bool


class _Side(NamedTuple):
    readings: tuple[Reading, ...]
    start: int
    end: int


def equations(text: str) -> list[Equation]:
    """The equations of a text that can be read with certainty, in order. `a + b = c = d` counts as two."""
    return [equation for tokens in lines_of_tokens(text) for equation in _equations_of_line(tokens)]


def first_wrong(text: str) -> Equation | None:
    """The first equation that does not hold, or None."""
    return next((equation for equation in equations(text) if not equation.holds), None)


def _equations_of_line(tokens: list[Token]) -> Iterator[Equation]:
    places = [i for i, token in enumerate(tokens) if token.kind == "="]
    for index, place in enumerate(places):
        before = places[index - 1] + 1 if index else 0
        after = places[index + 1] if index + 1 < len(places) else len(tokens)
        try:
            left = _left_side(tokens, before, place)
            right = _right_side(tokens, place + 1, after)
            yield from _compared(left, right)
        except Unclear:
            continue


def _left_side(tokens: list[Token], first: int, end: int) -> _Side:
    """The longest expression that ends at `end`; what stands before it must not take part in the calculation."""
    for start in range(max(first, end - _MAX_TOKENS), end):
        if not _may_start(tokens, start, first):
            continue
        readings = parse_exactly(tokens[start:end])
        if readings:
            _check_before(tokens, start, first, readings[0])
            return _Side(readings, tokens[start].start, tokens[end - 1].end)
    raise Unclear


def _may_start(tokens: list[Token], start: int, first: int) -> bool:
    """A number, a bracket, or a minus sign that stands at its number and apart from what is before."""
    token = tokens[start]
    if token.kind != "operator":
        return token.kind in {"number", "("}
    following = tokens[start + 1]
    is_sign = token.text == "-" and following.kind in {"number", "("} and not following.is_spaced
    is_apart = start == first or (token.is_spaced and tokens[start - 1].kind not in {"number", ")"})
    return is_sign and is_apart


def _check_before(tokens: list[Token], start: int, first: int, reading: Reading) -> None:
    """See that what stands before an expression takes no part in the calculation.

    Raises:
        Unclear: it may.
    """
    words = start
    while words > first and tokens[words - 1].kind == "word":
        words -= 1
    is_single = not reading.num_operators
    if is_single and (words < start or reading.units - {"$"}):
        raise Unclear  # "3 boxes = 5 * 2": a number that words surround names things rather than a value
    before = [token.text.lower() for token in tokens[words:start] if token.text not in _ARTICLES]
    if before and _is_involved(before, tokens[first:words]):
        raise Unclear
    if words > first and tokens[words - 1].kind in {"operator", "number", "other"}:
        is_prose = words < start and tokens[words - 1].kind == "number"
        if not is_prose:
            raise Unclear
    if words == start and start > first + 1:
        _check_gap(tokens[start - 2], tokens[start - 1], tokens[start])


def _is_involved(words: list[str], earlier: list[Token]) -> bool:
    """Whether the words before an expression calculate with it, or make its first number a name."""
    last = words[-1]
    if last == "of":
        # "a total of 5 + 3" is a plain sum, "half of 5 + 3" and "3 of 5 + 3" are not.
        return len(words) < 2 or words[-2] in _CALCULATING or words[-2].rstrip("s") in _PARTS
    if last in {"to", "and"}:
        return any(token.kind == "operator" for token in earlier)
    return last in _CALCULATING or last in _LABELS


def _check_gap(left: Token, mark: Token, right: Token) -> None:
    """A bracket or mark of punctuation inside the calculation: `+ ($100 * 2 =`, `+ . 84 =`, `14, 400 / 80 =`."""
    is_thousands = left.kind == "number" and mark.text == "," and len(right.text) == 3
    if mark.kind in {"(", "boundary"} and (left.kind == "operator" or is_thousands):
        raise Unclear


def _right_side(tokens: list[Token], start: int, end: int) -> _Side:
    readings, stop = parse_longest(tokens[start : min(end, start + _MAX_TOKENS)])
    following = tokens[start + stop] if start + stop < len(tokens) else None
    if following is not None and following.kind in {"number", "operator", "other"}:
        raise Unclear
    if following is not None and following.text.lower() in {"and", "with"}:
        after = tokens[start + stop + 1 : start + stop + 2]
        if after and after[0].kind in {"number", "("}:
            raise Unclear  # "17 / 3 = 5 and 2/3"
    of = next((i for i in range(start, start + stop) if tokens[i].text.lower() == "of"), None)
    if of is not None and tokens[of - 1].kind == "number":
        readings = (*readings, *parse_exactly(tokens[start:of]))  # "1/3 of $150 are left"
    last = next(t for t in reversed(tokens[start : start + stop]) if t.kind in {"number", ")"})
    return _Side(readings, tokens[start].start, last.end)


def _compared(left: _Side, right: _Side) -> Iterator[Equation]:
    first, second = left.readings[0], right.readings[0]
    if not first.num_operators and not second.num_operators:
        return
    if _is_conversion(first.units, second.units):
        return
    holds = any(
        abs(a.value - b.value) <= _tolerance(a, b) for a in left.readings for b in right.readings
    )
    yield Equation(span=(left.start, right.end), left=first.value, right=second.value, holds=holds)


def _tolerance(left: Reading, right: Reading) -> Fraction:
    """Half a unit of the last printed digit; between two calculations, of the coarser decimals they are made of."""
    if not right.num_operators:
        return right.last_digit / 2
    if not left.num_operators:
        return left.last_digit / 2
    return (
        max(left.last_digit, right.last_digit) / 2
        if min(left.last_digit, right.last_digit) < 1
        else Fraction(0)
    )


def _is_conversion(left: frozenset[str], right: frozenset[str]) -> bool:
    if right & _QUALIFIED or left & _QUALIFIED:
        return True
    for unit_of in _UNIT_OF:
        here = {unit_of[name] for name in left & unit_of.keys()}
        there = {unit_of[name] for name in right & unit_of.keys()}
        if here and there and not here & there:
            return True
    return False
