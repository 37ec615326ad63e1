"""Arithmetic expressions as people write them in a sentence, parsed by recursive descent over exact fractions.

    sum      = product { ("+" | "-") product }
    product  = factor { ("*" | "/" | "of") factor | "(" sum ")" }
    factor   = [ "-" ] ( number [ fraction ] | "(" sum ")" ) units
    units    = { word } { "/" word }

Where people write one thing and mean another ("120 + 10% = 132", "6 / 1/2"), every usual reading is given, the literal
one first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from kpod.stages.filter._tokens import Token, word_set

_MAX_DEPTH = 12
_MAX_UNIT_WORDS = 5
# Words that end a quantity: what follows is prose or another quantity.
_NO_UNIT = word_set(
    "and is are was were which so then gives makes equals if because when that he she they it has have had but"
    " times plus minus less more divided multiplied by than since therefore thus hence where while or"
)

_Percent = Literal["share", "bare", "relative"]


class Unclear(Exception):
    """The tokens cannot be read with certainty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an expression comes to.

    Args:
        value: exact.
        last_digit: worth of one unit of the last printed digit; of several numbers, of the most precise.
        num_operators: 0 for a number standing alone.
        units: words and signs at its numbers, lower case.
        is_share: the value is a percentage, or a fraction written with a stroke, so that "of" may follow.
    """

    value: Fraction
    last_digit: Fraction
    num_operators: int
    units: frozenset[str]
    is_share: bool = False


def parse_exactly(tokens: list[Token]) -> tuple[Reading, ...]:
    """Every usual reading of tokens that are one expression from first to last; () where they are none."""
    found = [_read(tokens, mode, is_whole=True) for mode in _modes(tokens)]
    return tuple(reading for reading, _ in found if reading)


def parse_longest(tokens: list[Token]) -> tuple[tuple[Reading, ...], int]:
    """The readings of the longest expression that the tokens begin with, and how many tokens it takes.

    With an operator in it, the first number alone is a reading too: "5 + 3 = 8 * 2 = 16" runs on.

    Raises:
        Unclear: they begin with none.
    """
    found = [_read(tokens, mode, is_whole=False) for mode in _modes(tokens)]
    readings = tuple(reading for reading, _ in found if reading)
    if not readings:
        raise Unclear
    first = _read(tokens[: 1 + (tokens[0].kind == "operator")], _Mode(), is_whole=True)[0]
    if first and readings[0].num_operators:
        readings = (*readings, first)
    return readings, max(stop for _, stop in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mode:
    percent: _Percent = "share"
    is_fraction_tight: bool = False


def _modes(tokens: list[Token]) -> list[_Mode]:
    percents: list[_Percent] = ["share"]
    if any(token.is_percent for token in tokens):
        percents = ["share", "bare", "relative"]
    slashes = sum(token.kind == "operator" and token.text == "/" for token in tokens)
    return [
        _Mode(percent=percent, is_fraction_tight=is_tight)
        for percent in percents
        for is_tight in ((False, True) if slashes > 1 else (False,))
    ]


def _read(tokens: list[Token], mode: _Mode, *, is_whole: bool) -> tuple[Reading | None, int]:
    parser = _Parser(tokens, mode, is_whole=is_whole)
    try:
        reading = parser.sum(0)
    except Unclear:
        return None, 0
    if is_whole and parser.place < len(tokens):
        return None, 0
    return reading, parser.place


class _Parser:
    def __init__(self, tokens: list[Token], mode: _Mode, *, is_whole: bool) -> None:
        self.tokens = tokens
        self.mode = mode
        self.is_whole = is_whole
        self.place = 0

    def sum(self, depth: int) -> Reading:
        left = self._product(depth)
        while self._operator() in {"+", "-"} and self._begins_operand(self.place + 1):
            sign = 1 if self._operator() == "+" else -1
            self.place += 1
            is_percent = self._is_percent_next()
            right = self._product(depth)
            value = right.value
            if self.mode.percent == "relative" and is_percent:
                value = left.value * right.value
            left = _joined(left, right, left.value + sign * value)
        return left

    def _product(self, depth: int) -> Reading:
        left = self._factor(depth)
        while True:
            operator = self._operator()
            if operator in {"*", "/"} and self._begins_operand(self.place + 1):
                self.place += 1
            elif self._is_of(left):
                operator = "*"
                self.place += 1
            elif self._is_implicit():
                operator = "*"
            else:
                return left
            right = self._factor(depth)
            if operator == "/" and not right.value:
                raise Unclear
            value = left.value * right.value if operator == "*" else left.value / right.value
            left = _joined(left, right, value, is_share=operator == "/")

    def _factor(self, depth: int) -> Reading:
        if depth > _MAX_DEPTH:
            raise Unclear
        token = self._next()
        if token.kind == "operator" and token.text == "-" and self._begins_operand(self.place):
            inner = self._factor(depth + 1)
            return replace(inner, value=-inner.value)
        if token.kind == "(":
            inner = self.sum(depth + 1)
            if self._next().kind != ")":
                raise Unclear
        elif token.kind == "number":
            inner = self._number(token)
        else:
            raise Unclear
        units = self._units()
        return replace(inner, units=inner.units | units) if units else inner

    def _number(self, token: Token) -> Reading:
        value, last_digit = token.value, token.last_digit
        if token.is_percent and self.mode.percent != "bare":
            value, last_digit = value / 100, last_digit / 100
        units = frozenset({token.unit} - {""})
        over = self._fraction_at(self.place)
        if (
            over is not None
            and value.denominator == 1
            and over < 1
            and self._is_tight_at(self.place)
        ):
            self.place += 3
            return Reading(value=value + over, last_digit=Fraction(1), num_operators=1, units=units)
        under = self._fraction_under_stroke() if self.mode.is_fraction_tight else None
        if under is not None:
            self.place += 2
            return Reading(
                value=under, last_digit=Fraction(1), num_operators=1, units=units, is_share=True
            )
        return Reading(
            value=value, last_digit=last_digit, num_operators=0, units=units,
            is_share=token.is_percent or value < 1,
        )  # fmt: skip

    def _fraction_at(self, place: int) -> Fraction | None:
        """The value of `1/2` at a place."""
        part = self.tokens[place : place + 3]
        if [token.kind for token in part] != ["number", "operator", "number"] or part[
            1
        ].text != "/":
            return None
        return part[0].value / part[2].value if part[2].value else None

    def _fraction_under_stroke(self) -> Fraction | None:
        """`3/4` as one number where it is written close together, or under another stroke: `60 / 3/4`."""
        place = self.place - 1
        follows_stroke = place > 0 and self.tokens[place - 1].text == "/"
        is_one = follows_stroke or self._is_tight_at(place)
        return self._fraction_at(place) if is_one else None

    def _is_tight_at(self, place: int) -> bool:
        return not any(token.is_spaced for token in self.tokens[place + 1 : place + 3])

    def _units(self) -> frozenset[str]:
        """The words after a number, as far as they can be its unit; taken only where the expression goes on or ends."""
        stop = self._end_of_words(self.place)
        words = [
            token.text.lower() for token in self.tokens[self.place : stop] if token.kind == "word"
        ]
        goes_on = stop < len(self.tokens) and self.tokens[stop].kind in {"operator", ")"}
        is_prose = not (goes_on or (self.is_whole and stop == len(self.tokens)))
        self._check_units(words, self.place, limit=2 if is_prose else len(words))
        if is_prose:
            return frozenset(words[:2])
        if words[:1] == ["of"]:
            raise Unclear  # "1/3 of Solomon"
        self.place = stop
        return frozenset(words)

    def _check_units(self, words: list[str], place: int, *, limit: int) -> None:
        is_tight = bool(words) and not self.tokens[place].is_spaced
        for word, following in [*pairwise([*words, ""])][:limit]:
            is_article = word == "a" and following and not is_tight
            if len(word) == 1 and word not in "°¢" and not is_article:
                raise Unclear  # a variable, or a unit that looks like one

    def _end_of_words(self, place: int) -> int:
        stop = place
        while stop < len(self.tokens) and stop - place < _MAX_UNIT_WORDS:
            token = self.tokens[stop]
            if token.kind == "word" and token.text.lower() not in _NO_UNIT:
                stop += 1
            elif token.kind == "operator" and token.text == "/" and self._is_word(stop + 1):
                stop += 2
            else:
                break
        return stop

    def _is_word(self, place: int) -> bool:
        here = self.tokens[place : place + 1]
        return bool(here) and here[0].kind == "word" and len(here[0].text) > 1

    def _is_of(self, left: Reading) -> bool:
        here = self.tokens[self.place : self.place + 2]
        is_of = len(here) == 2 and here[0].text.lower() == "of" and here[1].kind in {"number", "("}
        if is_of and not left.is_share:
            raise Unclear
        return is_of

    def _is_implicit(self) -> bool:
        """`2(3 + 4)` and `(2 + 3)(4)`."""
        here = self.tokens[self.place : self.place + 1]
        before = self.tokens[self.place - 1].kind
        return (
            bool(here)
            and here[0].kind == "("
            and not here[0].is_spaced
            and before in {"number", ")"}
        )

    def _is_percent_next(self) -> bool:
        return self.place < len(self.tokens) and self.tokens[self.place].is_percent

    def _operator(self) -> str:
        here = self.tokens[self.place : self.place + 1]
        return here[0].text if here and here[0].kind == "operator" else ""

    def _begins_operand(self, place: int) -> bool:
        here = self.tokens[place : place + 2]
        if not here:
            return False
        is_negative = here[0].kind == "operator" and here[0].text == "-" and len(here) == 2
        return here[0].kind in {"number", "("} or (is_negative and here[1].kind in {"number", "("})

    def _next(self) -> Token:
        if self.place >= len(self.tokens):
            raise Unclear
        self.place += 1
        return self.tokens[self.place - 1]


def _joined(left: Reading, right: Reading, value: Fraction, *, is_share: bool = False) -> Reading:
    return Reading(
        value=value, last_digit=min(left.last_digit, right.last_digit), is_share=is_share,
        num_operators=left.num_operators + right.num_operators + 1, units=left.units | right.units,
    )  # fmt: skip
