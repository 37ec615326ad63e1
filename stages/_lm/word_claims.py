"""Answers that are not numbers: the letter of a choice, yes or no, a text.

Source: PRACTICE section 5 for the order of evidence; CommonsenseQA's letters and lower-case choices (KPOD 9.30).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase

from kpod.stages._lm.evidence import Extracted, NoAnswer, Stretch

_BRACKETED = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]]")
_NAMED = re.compile(r"\b(?:option|choice|letter)\s+[*\"']*([A-Za-z])(?![A-Za-z0-9])", re.IGNORECASE)
_LEADING = re.compile(
    r"[\s*_:\"'$({\[]{0,12}(?:\\text\w{0,4}\{\s*\(?)?([A-Za-z])(?![A-Za-z0-9'’])(?P<tail>[^\n]?)"
)
_NOT = re.compile(r"(?:\bnot|n't)\s*[*\"'(\[]*$", re.IGNORECASE)
_YES_NO = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_YES_NO_SENTENCE = re.compile(r"(?:^|[.!?\n][ \t]*)[*\"']{0,3}(yes|no|true|false)\b", re.IGNORECASE)
_YES_TRUE_FALSE = re.compile(r"\b(yes|true|false)\b", re.IGNORECASE)
_MEANING = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_TEXT_COMMAND = re.compile(r"\\text\w{0,4}\{([^{}]*)\}")


def claimed_choice(text: str, stretch: Stretch, choices: Sequence[str] | None) -> Extracted | None:
    """A letter in brackets, after "option", or leading the stretch; else the one choice whose text stands there.

    Raises:
        NoAnswer: "(A) or (B)".
    """
    area = (stretch.start, stretch.end)
    return _letter(text, area, stretch.rule, choices) or _choice_text(
        text, area, stretch.rule, choices
    )


def last_choice(text: str, choices: Sequence[str] | None) -> Extracted | None:
    """From a text that states no answer: a letter in its last line, else the one choice named there, else anywhere."""
    area = _last_line_area(text)
    bracketed = {match[1].upper() for match in _BRACKETED.finditer(text, *area)}
    found = _letter(text, area, "letter", choices) if len(bracketed) < 2 else None
    return (
        found
        or _choice_text(text, area, "choice_text", choices)
        or _choice_text(text, (0, len(text)), "choice_text", choices)
    )


def letter_of(gold: str, choices: Sequence[str] | None) -> str | None:
    """The letter that a gold answer names, by itself or by the text of its choice."""
    letter = gold.strip().strip("().").upper()
    if len(letter) == 1 and letter in _letters(choices):
        return letter
    same = [i for i, choice in enumerate(choices or ()) if plain(choice) == plain(gold)]
    return ascii_uppercase[same[0]] if len(same) == 1 and same[0] < 26 else None


def claimed_yes_no(text: str, stretch: Stretch, choices: Sequence[str] | None) -> Extracted | None:
    """The first yes, no, true or false of a stretch.

    Raises:
        NoAnswer: "yes or no".
    """
    del choices
    found = list(_YES_NO.finditer(text, stretch.start, stretch.end))
    if len({_MEANING[m[1].lower()] for m in found[:2]}) > 1 and re.search(
        r"\bor\b", text[found[0].end() : found[1].start()]
    ):
        raise NoAnswer
    return _meaning(found[0], stretch.rule) if found else None


def last_yes_no(text: str, choices: Sequence[str] | None) -> Extracted | None:
    """The last sentence that begins with yes or no; else the last yes, true or false ("no" alone counts things)."""
    del choices
    for pattern in (_YES_NO_SENTENCE, _YES_TRUE_FALSE):
        last: re.Match[str] | None = None
        for match in pattern.finditer(text):
            last = match
        if last:
            return _meaning(last, "word")
    return None


def yes_or_no(gold: str) -> str | None:
    """The gold answer as yes or no; None where it is neither."""
    return _MEANING.get(gold.strip().rstrip(".").lower())


def claimed_text(text: str, stretch: Stretch, choices: Sequence[str] | None) -> Extracted | None:
    """All of a stretch, normalised."""
    del choices
    return _as_text(text, (stretch.start, stretch.end), stretch.rule)


def last_line(text: str, choices: Sequence[str] | None) -> Extracted | None:
    """The last line that is not empty, normalised."""
    del choices
    return _as_text(text, _last_line_area(text), "last_line")


def plain(text: str) -> str:
    """A text for comparison: compatibility forms and case folded, white space single, no quotes or marks around it."""
    text = _TEXT_COMMAND.sub(r"\1", text)
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(" .,:;!?\"'`*_$()[]{}“”‘’")


def _as_text(text: str, area: tuple[int, int], rule: str) -> Extracted | None:
    value = plain(text[area[0] : area[1]])
    return Extracted(value=value, rule=rule, span=area) if value else None


def _meaning(match: re.Match[str], rule: str) -> Extracted:
    return Extracted(value=_MEANING[match[1].lower()], rule=rule, span=match.span(1))


def _last_line_area(text: str) -> tuple[int, int]:
    end = len(text.rstrip())
    return text.rfind("\n", 0, end) + 1, end


def _letters(choices: Sequence[str] | None) -> str:
    return ascii_uppercase[: 10 if choices is None else len(choices)]


def _letter(
    text: str, area: tuple[int, int], rule: str, choices: Sequence[str] | None
) -> Extracted | None:
    allowed = _letters(choices)
    for pattern in (_BRACKETED, _NAMED):
        found = [match for match in pattern.finditer(text, *area) if match[1].upper() in allowed]
        if found:
            meant = _meant(text, area[0], found)
            return Extracted(value=meant[1].upper(), rule=rule, span=meant.span(1))
    leading = _LEADING.match(text, *area)
    if leading is None or leading[1].upper() not in allowed:
        return None
    # "A bank", "a bank" and "I think" begin with a word; "A.", "a)" and "B because" with a letter.
    is_marked = leading["tail"] in set(".):,;]}*\"'\\") | {""}
    if not is_marked and leading[1] not in allowed.replace("A", "").replace("I", ""):
        return None
    return Extracted(value=leading[1].upper(), rule=rule, span=leading.span(1))


def _meant(text: str, start: int, found: list[re.Match[str]]) -> re.Match[str]:
    """The letter that is meant: "not (A) but (B)" means B; "(A) or (B)" means nothing."""
    first, rest = found[0], found[1:]
    if rest and _NOT.search(text[start : first.start()]):
        return rest[0]
    if rest and rest[0][1] != first[1] and " or " in text[first.end() : rest[0].start()]:
        raise NoAnswer
    return first


def _choice_text(
    text: str, area: tuple[int, int], rule: str, choices: Sequence[str] | None
) -> Extracted | None:
    """The only choice whose text stands in the area as whole words; the longer one where one holds another."""
    hits: list[tuple[int, int, str]] = []
    for letter, choice in zip(ascii_uppercase, choices or (), strict=False):
        words = re.escape(choice.strip())
        pattern = re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)
        match = pattern.search(text, *area) if words else None
        if match:
            hits.append((*match.span(), letter))
    widest = [
        hit for hit in hits if not any(o[0] <= hit[0] and hit[1] <= o[1] and o != hit for o in hits)
    ]
    if len(widest) != 1:
        return None
    start, end, letter = widest[0]
    return Extracted(value=letter, rule=rule, span=(start, end))
