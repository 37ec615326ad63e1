"""The words, numbers and signs of a line of text, for the arithmetic check.

Calculator marks of GSM8K (`<<48/2=24>>`) are taken out first; offsets are those of the text as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, NamedTuple

Kind = Literal["number", "operator", "=", "(", ")", "word", "boundary", "other"]

_ZERO, _ONE = Fraction(0), Fraction(1)
_MARK = re.compile(r"<<[^<>\n]*>>")
# More digits are no quantity of a word problem, and exact arithmetic on them takes time.
_MAX_DIGITS = 25
_DIGITS = r"[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<multiply>\\times|\\cdot|[×·∙⋅]|\*(?!\*)|[xX](?=\s*(?:\\?[$£€]\s*)?[(0-9.]))"
    r"|(?P<word>[A-Za-z]{1,2}\d+|[^\W\d_]+(?:['’-][^\W\d_]+)*|°|¢)"
    rf"|(?P<number>(?P<currency>\\?[$£€]\s*)?(?P<digits>{_DIGITS})(?P<more>\.\.\.|…)?(?P<percent>\s?\\?%)?(?P<cents>\s?¢)?)"
    r"|(?P<boundary>=>|->|[<>!]=|[.,;:?!\"'’‘“”|<>—#&]|\\[()\[\]])"
    r"|(?P<equals>==?(?![=>]))"
    r"|(?P<divide>\\div|÷|/)"
    r"|(?P<add>\+)"
    r"|(?<=[0-9])-(?P<hyphened>[A-Za-z][A-Za-z-]*)"
    r"|(?P<subtract>[-−–])(?!>)"
    r"|(?P<open>\\left\s?[(\[]|[(\[])"
    r"|(?P<close>\\right\s?[)\]]|[)\]])"
    r"|(?P<fraction>\\[dt]?frac\{(?P<top>[0-9.]{1,12})\}\{(?P<bottom>[0-9.]{1,12})\})"
    r"|(?P<latex>\\text\w{0,4}\{(?P<text>[^{}\n]{0,60})\})"
    r"|(?P<dropped>\*\*|\\?[$£€]|\\[,!; ])"
    r"|(?P<other>.)",
    re.DOTALL,
)
# What a group of the pattern makes: the kind of token, and the text of an operator.
_KINDS: dict[str, tuple[Kind, str]] = {
    "multiply": ("operator", "*"), "divide": ("operator", "/"), "add": ("operator", "+"),
    "subtract": ("operator", "-"), "open": ("(", ""), "close": (")", ""), "equals": ("=", ""),
    "boundary": ("boundary", ""), "word": ("word", ""), "hyphened": ("word", ""),
    "latex": ("word", ""), "other": ("other", ""),
}  # fmt: skip
_WORDS_IN_BRACKETS = re.compile(r"(?<![0-9.)])\((?=[^()\d=]*[a-z]{2})[^()\d=+*/]{1,40}\)")


class Token(NamedTuple):
    """One piece of a line; a tuple, because a text has hundreds.

    Args:
        text: as written; of an operator, one of + - * /.
        value: of a number.
        last_digit: what one unit of the last printed digit of a number is worth; twice that before "...".
        is_percent: a percent sign follows the number.
        is_spaced: white space stands before it.
        unit: "$" or "¢" written at the number, or "".
    """

    kind: Kind
    text: str
    start: int
    end: int
    value: Fraction = _ZERO
    last_digit: Fraction = _ONE
    is_percent: bool = False
    is_spaced: bool = True
    unit: str = ""


def word_set(words: str) -> frozenset[str]:
    """The words of a list written as a sentence."""
    return frozenset(words.split())


def lines_of_tokens(text: str) -> Iterator[list[Token]]:
    """The tokens of every line that holds an equals sign."""
    text = _MARK.sub(lambda mark: " " * len(mark[0]), text)
    start = 0
    for line in text.split("\n"):
        if "=" in line:
            yield _tokens(_without_notes(line), start)
        start += len(line) + 1


def _without_notes(line: str) -> str:
    """The line with brackets that hold only words blanked out: `4 (shirts) / 2`."""
    return _WORDS_IN_BRACKETS.sub(lambda note: " " * len(note[0]), line)


def _tokens(line: str, offset: int) -> list[Token]:
    tokens: list[Token] = []
    is_spaced = True
    for match in _TOKEN.finditer(line):
        if match.lastgroup == "space":
            is_spaced = True
            continue
        if match.lastgroup == "dropped":
            continue
        if not _is_bullet(line, tokens, match):
            tokens += _made(match, offset, is_spaced=is_spaced)
        is_spaced = False
    return tokens


def _is_bullet(line: str, tokens: list[Token], match: re.Match[str]) -> bool:
    """Whether a dash or star opens a list item: `- 6 cups + 14 cups`."""
    if tokens or match.lastgroup not in {"subtract", "multiply"}:
        return False
    return match.end() < len(line) and line[match.end()].isspace()


def _made(match: re.Match[str], offset: int, *, is_spaced: bool) -> list[Token]:
    start, end = match.start() + offset, match.end() + offset
    group = match.lastgroup or "other"
    if group == "number":
        return [_number(match, start, end, is_spaced=is_spaced)]
    if group == "fraction":
        return _fraction(match, start, end)
    kind, text = _KINDS[group]
    if kind == "word":
        text = (match["text"] or match[group]).strip()
    return [Token(kind=kind, text=text or match[0], start=start, end=end, is_spaced=is_spaced)]


def _number(match: re.Match[str], start: int, end: int, *, is_spaced: bool) -> Token:
    digits = match["digits"].replace("{,}", "").replace(",", "")
    tail = match.string[match.end() : match.end() + 2]
    before = match.string[max(0, match.start() - 2) : match.start()]
    is_torn = (len(tail) == 2 and tail[0] in ",.:" and tail[1].isdigit()) or (
        len(before) == 2 and before[1] in ",.:" and before[0].isdigit()
    )
    is_clock = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    if len(digits) > _MAX_DIGITS or is_torn or is_clock:
        # 10:30, 0730, 1.2.3, 3,5 and 13,2000 are no certain numbers.
        return Token(kind="other", text=match[0], start=start, end=end, is_spaced=is_spaced)
    decimals = len(digits.partition(".")[2])
    return Token(
        kind="number", text=match[0], start=start, end=end,
        value=Fraction(digits) if decimals else Fraction(int(digits)),
        last_digit=Fraction(2 if match["more"] else 1, 10**decimals), is_percent=match["percent"] is not None,
        is_spaced=is_spaced, unit="$" if match["currency"] else "¢" if match["cents"] else "",
    )  # fmt: skip


def _fraction(match: re.Match[str], start: int, end: int) -> list[Token]:
    r"""`\frac{3}{4}` as (3/4)."""
    tokens = [Token(kind="(", text="(", start=start, end=end)]
    for part, sign in ((match["top"], "/"), (match["bottom"], ")")):
        is_number = part.count(".") <= 1 and part.strip(".") != ""
        tokens += [
            Token(
                kind="number" if is_number else "other", text=part, start=start, end=end,
                value=Fraction(part.strip(".")) if is_number else Fraction(0),
            ),
            Token(kind=")" if sign == ")" else "operator", text=sign, start=start, end=end),
        ]  # fmt: skip
    return tokens
