r"""Numbers as people and language models write them, read exactly.

`find_numbers("it costs $1,234.50 or 12 \frac{1}{2} %")` gives 1234.5 and 12.5 %. Values are fractions, so that 0.1 and
1/10 are one number; nothing is evaluated, and no number word is read. Source: the rules of answer extraction
in PRACTICE section 5; each regular expression names its row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

# A number of more digits than this is no answer to anything, and int() refuses 4,300 of them.
MAX_DIGITS = 400
MAX_EXPONENT = 400
# Relative; only where one side cannot be written as a decimal, 1/3 against 0.333333 (PRACTICE 5).
TOLERANCE = Fraction(1, 10**6)

_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
}  # fmt: skip

# Thousands: "1,234", "9{,}500", "15,\!000", "15\,000" and the thin spaces of typesetters (PRACTICE row 15: Math-Verify).
_SEPARATOR = r"(?:\.|,\\!|,|\{,\}|\\,|[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9])))"
_DIGITS = rf"(?:[0-9]+(?:{_SEPARATOR}[0-9]+)*|\.[0-9]+)"
# "-$5", "$-5", "−5", "\$5", "US$5", "Rs. 5": a sign may precede the currency (PRACTICE 5).
_CURRENCY = r"(?:(?:US|CA|AU|NZ|HK|R)?\\?\$|[€£¥₹]|(?:USD|EUR|GBP|Rs\.?)(?=\s?[-−0-9.]))"
_SIGN = r"[-−–+]"
_TOP_AND_BOTTOM = (
    r"\\[dt]?frac\s*(?:\{\s*(?P<top>-?[0-9.,]+)\s*\}|(?P<top1>[0-9]))"
    r"\s*(?:\{\s*(?P<bottom>[0-9.,]+)\s*\}|(?P<bottom1>[0-9]))"
)
_NUMBER = re.compile(
    # a quick look first: most characters begin no number
    r"(?=[-−–+\\$€£¥₹0-9.½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞UCANHREG])"
    rf"(?P<lead>{_SIGN}?{_CURRENCY}\s?{_SIGN}?|{_SIGN}?)"
    rf"(?:{_TOP_AND_BOTTOM}"
    rf"|(?P<digits>{_DIGITS})"
    # 1e5, 1.5 × 10^3, 1.5 \times 10^{3}
    r"(?:[eE](?P<power>[-+−]?[0-9]+)(?![0-9A-Za-z])"
    r"|\s?(?:×|\\times|\\cdot|\*|x)\s?10\s?(?:\^|\*\*)\s?\{?\s?(?P<power10>[-+−]?[0-9]+)\}?"
    r"|(?:\^|\*\*)\{?(?P<exponent>[0-9]+)\}?"
    # 3/4 and mixed 2 1/2, 2\frac{1}{2}; a chain of slashes (3/4/2020) is no fraction
    r"|/(?P<under>[0-9]+)(?![0-9/]|[.,][0-9])"
    r"|[ ]?(?:(?P<over2>[0-9]+)/(?P<under2>[0-9]+)(?![0-9/]|[.,][0-9])"
    r"|\\[dt]?frac\s*\{(?P<over3>[0-9]+)\}\s*\{(?P<under3>[0-9]+)\})"
    r"|[ ]?(?P<vulgar>[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]))?"
    r"|(?P<only>[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]))"
    r"(?P<percent>\s?\\?%|\s(?:percent|per\scent)\b)?"
)
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}")
_DOTTED = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+|[0-9]{1,3}(?:\.[0-9]{3}){2,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number in a text.

    Args:
        value: as written; "20 %" is 20 with `is_percent`. None where the digits have no certain value
            (1.2.3, a zero under the line, more than MAX_DIGITS digits).
        is_percent: whether a percent sign follows.
        span: characters of the text, currency and sign included.
    """

    value: Fraction | None
    is_percent: bool
    span: tuple[int, int]


def find_numbers(text: str, start: int = 0, end: int | None = None) -> Iterator[Number]:
    """The numbers of a stretch of text, left to right; linear in its length.

    A digit that belongs to a word (H2O, Q1) or stands as an exponent of a unit (m^2) is no number.
    """
    for match in _NUMBER.finditer(text, start, len(text) if end is None else end):
        if not _is_part_of_word(text, match):
            yield _number(text, match)


def parse_number(text: str) -> Number | None:
    """The number that a text is, units after it allowed; None where it holds none, or two, or an unreadable one."""
    found = [number for number in find_numbers(text) if number.value is not None]
    return found[0] if len(found) == 1 else None


def agree(given: Number, gold: Number) -> bool:
    """Whether two numbers are the same answer.

    Percent is accepted on either side, as N or as N/100, but never conjured up without a sign (PRACTICE 5). Equality
    is exact; 1e-6 relative only where a side is no terminating decimal.
    """
    if given.value is None or gold.value is None:
        return False
    if given.is_percent == gold.is_percent:
        return _equal(given.value, gold.value)
    shares = (given.value, gold.value / 100) if gold.is_percent else (given.value / 100, gold.value)
    return _equal(given.value, gold.value) or _equal(*shares)


def written(number: Number) -> str:
    """The canonical text of a number with a value: "18", "-2.5", "1/3", "20%"; reading it gives the number back."""
    assert number.value is not None, "a number without a value has no canonical text"
    value = number.value
    places = _decimal_places(value)
    if places is None:
        text = f"{value.numerator}/{value.denominator}"
    else:
        digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
        whole, tail = digits[: len(digits) - places], digits[len(digits) - places :]
        text = ("-" if value < 0 else "") + whole + (f".{tail}" if tail else "")
    return text + ("%" if number.is_percent else "")


def _equal(left: Fraction, right: Fraction) -> bool:
    if left == right:
        return True
    if _decimal_places(left) is not None and _decimal_places(right) is not None:
        return False
    return abs(left - right) <= TOLERANCE * abs(right)


def _decimal_places(value: Fraction) -> int | None:
    """Digits after the point that write the value out; None where no number of digits does."""
    rest, places = value.denominator, 0
    while rest > 1:
        if rest % 10 == 0:
            rest //= 10
        elif rest % 2 == 0:
            rest //= 2
        elif rest % 5 == 0:
            rest //= 5
        else:
            return None
        places += 1
    return places


def _is_part_of_word(text: str, match: re.Match[str]) -> bool:
    """Whether the digits continue a word, a variable or an exponent: H2O, Q1, m^2."""
    start = match.start()
    if match["lead"] or start == 0:
        return False
    before = text[start - 1]
    if before in "xX×" and start > 1 and (text[start - 2].isdigit() or text[start - 2] in " )"):
        return False  # "67 x12": a sign of multiplication
    return before.isalpha() or before in "_^" or text[max(0, start - 2) : start] == "^{"


def _number(text: str, match: re.Match[str]) -> Number:
    start = match.start()
    lead = match["lead"]
    is_negative = any(sign in lead for sign in "-−–")
    if lead and lead[0] in "-−–+" and not _may_be_signed(text, start):
        start, is_negative = start + 1, any(sign in lead[1:] for sign in "-−–")
    value = _value(text, match)
    if value is not None and is_negative:
        value = -value
    if match["digits"] and "," in match["digits"] and _is_list(match["digits"]):
        start = match.start("digits") + match["digits"].rindex(",") + 1
    is_percent = match["percent"] is not None
    return Number(value=value, is_percent=is_percent, span=(start, match.end()))


def _may_be_signed(text: str, start: int) -> bool:
    """Whether a sign at `start` belongs to its number: after a letter, digit or bracket it is an operator or a hyphen."""
    before = text[max(0, start - 3) : start]
    tight, last = before[-1:], before.rstrip()[-1:]
    return not (tight.isalnum() or last.isdigit() or last in (")", "]", "}", "%"))


def _value(text: str, match: re.Match[str]) -> Fraction | None:
    groups = match.groupdict()
    if groups["only"]:
        return Fraction(*_VULGAR[groups["only"]])
    top = groups["top"] or groups["top1"]
    if top:
        bottom = groups["bottom"] or groups["bottom1"]
        return _divided(_decimal(top.lstrip("-")), _decimal(bottom), is_negative=top[0] == "-")
    before = text[max(0, match.start() - 1) : match.start()]
    whole = _decimal(groups["digits"], is_in_brackets=before == "(")
    return None if whole is None else _with_tail(whole, groups, is_in_chain=before == "/")


def _with_tail(
    whole: Fraction, groups: dict[str, str | None], *, is_in_chain: bool
) -> Fraction | None:
    """The number with what follows its digits: a power, a line with a number under it, a fraction beside it."""
    power = groups["power"] or groups["power10"]
    if power:
        return _scaled(whole, power)
    if groups["exponent"]:
        exponent = groups["exponent"]
        is_small = len(exponent) <= 2 and whole.numerator < 10**6 and whole.denominator < 10**6
        return whole ** int(exponent) if is_small else None
    if groups["under"]:
        return None if is_in_chain else _divided(whole, _decimal(groups["under"]))
    if groups["vulgar"]:
        return whole + Fraction(*_VULGAR[groups["vulgar"]])
    over, under = groups["over2"] or groups["over3"], groups["under2"] or groups["under3"]
    if over and under:
        part = _divided(_decimal(over), _decimal(under))
        return None if part is None or part >= 1 or whole.denominator != 1 else whole + part
    return whole


def _divided(
    top: Fraction | None, bottom: Fraction | None, *, is_negative: bool = False
) -> Fraction | None:
    if top is None or not bottom:
        return None
    return -top / bottom if is_negative else top / bottom


def _scaled(value: Fraction, power: str) -> Fraction | None:
    """The value times 10^power; None where that is out of range."""
    digits = power.replace("−", "-").lstrip("+")
    if len(digits) > 4 or abs(int(digits)) > MAX_EXPONENT:
        return None
    return value * Fraction(10) ** int(digits)


def _is_list(digits: str) -> bool:
    """Whether commas separate items ("1,2,3") and neither thousands nor decimals."""
    return digits.count(",") > 1 and not (_THOUSANDS.fullmatch(digits) or _DOTTED.fullmatch(digits))


def _decimal(digits: str, *, is_in_brackets: bool = False) -> Fraction | None:
    """The value of a run of digits with separators; None where it has no certain one.

    A comma with exactly three digits after it groups thousands; else it is a decimal comma, but only where there is no
    other reading: not in a list, not in a pair of coordinates (PRACTICE 5).
    """
    if digits.isdecimal() and len(digits) <= MAX_DIGITS:
        return Fraction(int(digits))
    for separator in (",\\!", "{,}", "\\,", "\u00a0", "\u2009", "\u202f"):
        digits = digits.replace(separator, ",")
    if len(digits) > MAX_DIGITS:
        return None
    is_zero_led = digits.startswith("0,")
    if _THOUSANDS.fullmatch(digits) and not is_zero_led:
        return Fraction(digits.replace(",", ""))
    if _DOTTED.fullmatch(digits):
        return Fraction(digits.replace(".", "").replace(",", "."))
    if digits.count(",") > 1 or ("," in digits and ("." in digits or is_in_brackets)):
        digits = digits.rpartition(",")[2]
    digits = digits.replace(",", ".").rstrip(".")
    return Fraction(digits) if digits and digits.count(".") <= 1 and digits[-1].isdigit() else None
