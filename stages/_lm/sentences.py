"""Where sentences and lines end in a teacher's text: not inside numbers, after abbreviations or list marks.

    "Mr. Lee paid $3.50. He had 2 oz. left." ends after "3.50." and after "left."

No model and no list of names: rules that a person can read, linear in the text. Source: our choice throughout, where
KPOD Sec. 3.4 only says "the symbol '.'"; the words come from GSM8K's solutions and GPT-3.5's rationales for SVAMP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A line break with all white space after it, or a run of closing signs with the quotes and brackets that it closes.
_STOP = re.compile(r"""\n\s*+|(?P<signs>[.!?…。！？]++)(?P<closers>["'”’)\]}*_]*+)""")
_OPERATORS = frozenset("+-*/=×÷<>")
_WORD = re.compile(r"[A-Za-z][A-Za-z.]*$")
# Longer than every abbreviation below; a longer word is none.
_WORD_CHARACTERS = 12
# "1. He adds", "Step 2. He adds", "A. river": the sign belongs to the mark that begins the step.
_MARK = re.compile(r"[\s#>*_(•-]*+(?:step\s*\d{1,2}|\d{1,2}|[a-z]|[ivx]{1,4})[*_]*", re.IGNORECASE)
_MARK_CHARACTERS = 24

# Never the end of a sentence.
_ALWAYS = frozenset({
    "mr", "mrs", "ms", "dr", "prof", "vs", "e.g", "i.e", "eg", "ie", "approx", "cf", "viz",
})  # fmt: skip
_TITLES = frozenset({"St", "Mt", "Ft", "Gen", "Sgt", "Capt", "Rev", "Hon"})
# "No. 5" and "No. of apples", but "No. She has 5."
_NUMBERED = frozenset({"no", "nos", "fig", "figs", "eq", "eqs", "ch", "vol"})
# The end of a sentence unless it goes on in lower case or with a sum: "2 oz. of tea", "3 ft. + 2 ft.", "2 oz. He".
_UNITS = frozenset({
    "oz", "lb", "lbs", "ft", "in", "yd", "yds", "mi", "sq", "cu", "gal", "qt", "pt", "pts", "tsp", "tbsp", "hr",
    "hrs", "min", "mins", "sec", "secs", "wk", "wks", "mo", "mos", "yr", "yrs", "km", "cm", "mm", "kg", "mph",
    "doz", "pc", "pcs", "ea", "amt", "avg", "max", "temp", "dist", "qty", "tot", "est", "dept", "ave", "etc",
    "jr", "sr", "inc", "co", "jan", "feb", "mar", "apr", "aug", "sept", "oct", "nov", "dec", "mon", "tue",
    "tues", "wed", "thu", "thur", "thurs", "fri", "sat", "sun",
})  # fmt: skip
# After an initial, these begin a sentence rather than a name: "Plan A. Then", but "John F. Kennedy".
_STARTERS = frozenset({
    "A", "After", "All", "Also", "An", "And", "As", "At", "Because", "Both", "But", "By", "Each", "Finally",
    "First", "For", "From", "Given", "He", "Hence", "Her", "His", "How", "However", "I", "If", "In", "It",
    "Its", "Let", "Next", "Now", "On", "Once", "One", "She", "Since", "So", "Step", "That", "The", "Their",
    "Then", "There", "Therefore", "These", "They", "This", "Thus", "To", "Using", "We", "What", "When", "While",
    "With", "You", "Your",
})  # fmt: skip


def sentence_ends(text: str) -> Iterator[int]:
    """Offsets behind every sentence and line of a text, increasing; the end of the text may be among them."""
    start = 0
    for stop in _STOP.finditer(text):
        if _ends(text, stop, start):
            yield stop.end()
            start = stop.end()


def _ends(text: str, stop: re.Match[str], start: int) -> bool:
    """Whether the step that began at `start` ends at this stop."""
    signs, following = stop["signs"], text[stop.end() : stop.end() + 1]
    if signs is None:
        # A line that begins with "=" goes on with the sum of the line before it.
        return following != "="
    if signs == ".":
        return _period_ends(text, stop, start)
    if signs == "!" and _is_factorial(text, stop):
        return False
    if following and not following.isspace():
        return signs[-1] in "。！？" or following.isupper()
    # A quotation or an ellipsis inside of a sentence that goes on: 'asked "how many?" and', "2, 4, 6... seconds".
    is_inside = bool(stop["closers"]) or signs[-1] in ".…"
    return not (is_inside and _next_on_line(text, stop.end()).islower())


def _period_ends(text: str, stop: re.Match[str], start: int) -> bool:
    dot, end = stop.start(), stop.end()
    following = text[end : end + 1]
    if following and not following.isspace():
        return not stop["closers"] and _lacks_space(text, dot)
    upcoming = _next_on_line(text, end)
    if not upcoming:
        return True
    if dot - start <= _MARK_CHARACTERS and _MARK.fullmatch(text, start, dot):
        return False
    if stop["closers"]:
        # A quotation or a bracket inside of a sentence that goes on.
        return not upcoming.islower()
    return not _is_abbreviation(text, dot, start, upcoming)


def _lacks_space(text: str, dot: int) -> bool:
    """Whether a sentence ends here although no space follows: "5 apples.Then", but not "3.5", "$.50", "a.m" or "U.S"."""
    word, following = _last_word(text, dot), text[dot + 1]
    is_word = len(word) > 1 and "." not in word and word.lower() not in _NUMBERED
    if following.isupper():
        return is_word or text[dot - 1 : dot].isdigit()
    return following.isdigit() and is_word


def _is_factorial(text: str, stop: re.Match[str]) -> bool:
    """Whether "!" is a sign of arithmetic: "5! = 120", "(3!)"."""
    is_number = stop.start() > 0 and text[stop.start() - 1].isdigit()
    return is_number and (_next_on_line(text, stop.end()) in _OPERATORS or stop["closers"] == ")")


def _is_abbreviation(text: str, dot: int, start: int, upcoming: str) -> bool:
    """Whether the word before a period is one that is written with it, given what follows."""
    word = _last_word(text, dot)
    name = word.lower()
    if name in _ALWAYS or word in _TITLES:
        return True
    goes_on = upcoming.islower() or upcoming in _OPERATORS
    if name in _NUMBERED:
        return upcoming.isdigit() or goes_on
    if "." in word or name in _UNITS:
        return goes_on or (word.isupper() and "." in word and _begins_name(text, dot))
    return len(word) == 1 and word.isupper() and _is_initial(text, dot, start)


def _is_initial(text: str, dot: int, start: int) -> bool:
    """Whether a single capital letter is part of a name: after a capitalised word, before another that begins no sentence."""
    before = text[max(start, dot - 1 - _WORD_CHARACTERS) : dot - 1].split()
    is_named = bool(before) and before[-1][:1].isupper() and text[dot - 2].isspace()
    return is_named and _begins_name(text, dot)


def _begins_name(text: str, dot: int) -> bool:
    """Whether a capitalised word follows that begins no sentence."""
    found = re.compile(r"[ \t]+([A-Z][\w'’-]*)").match(text, dot + 1)
    return found is not None and found[1] not in _STARTERS


def _last_word(text: str, dot: int) -> str:
    """The letters, and periods between them, that stand right before an offset; "" where there are none or too many."""
    found = _WORD.search(text[max(0, dot - _WORD_CHARACTERS) : dot])
    return "" if found is None else found[0]


def _next_on_line(text: str, at: int) -> str:
    """The next visible character of the same line, or ""."""
    while at < len(text) and text[at] in " \t\r\u00a0":
        at += 1
    return "" if text[at : at + 1] in {"", "\n"} else text[at]
