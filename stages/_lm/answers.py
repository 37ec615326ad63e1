r"""What a text gives as its answer, and whether that is right: the one extractor for filter and evaluation.

    extract("… Therefore, the answer is $1,018.00.", "numeric")
    -> Extracted(value="1018", rule="phrase", span=(28, 37))

Total: any text gives an answer or None, never an error, in time linear in its length. No eval, no sympy: nothing of
a model's text is executed. Source of the rules: PRACTICE section 5, rows 11 and 15; each stands beside its code, in
`evidence` (where an answer is stated), `numbers` (how numbers are written), `number_claims` and `word_claims`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kpod.stages._lm.evidence import Extracted, NoAnswer, Stretch, stretches, visible
from kpod.stages._lm.number_claims import claimed_number, last_number
from kpod.stages._lm.numbers import agree, parse_number, written
from kpod.stages._lm.word_claims import (
    claimed_choice,
    claimed_text,
    claimed_yes_no,
    last_choice,
    last_line,
    last_yes_no,
    letter_of,
    plain,
    yes_or_no,
)

if TYPE_CHECKING:
    from kpod.runner import Kind

__all__ = ["Extracted", "canonical", "extract", "is_correct", "matches"]


class _Reader(NamedTuple):
    """How answers of a kind are read: from a stretch that states one, and from a text that states none."""

    claimed: Callable[[str, Stretch, Sequence[str] | None], Extracted | None]
    fall_back: Callable[[str, Sequence[str] | None], Extracted | None]


_READERS: dict[str, _Reader] = {
    "numeric": _Reader(claimed_number, last_number),
    "choice": _Reader(claimed_choice, last_choice),
    "yesno": _Reader(claimed_yes_no, last_yes_no),
    "text": _Reader(claimed_text, last_line),
}


def extract(text: str, kind: Kind, choices: Sequence[str] | None = None) -> Extracted | None:
    """The answer that a text gives, or None where it gives none, or two at once.

    Args:
        text: any text at all.
        kind: of the question.
        choices: texts of the choices in the order of their letters; None where they are not known.
    """
    shown = visible(text)
    if shown is None:
        return None
    reader = _READERS[kind]
    try:
        for stretch in stretches(shown):
            found = reader.claimed(shown, stretch, choices)
            if found:
                return found
        return reader.fall_back(shown, choices)
    except NoAnswer:
        return None


def canonical(gold: str, kind: Kind, choices: Sequence[str] | None = None) -> str | None:
    """A gold answer in the form of `Extracted.value`; None where it cannot be read as that kind."""
    if kind == "numeric":
        number = parse_number(gold)
        return written(number) if number else None
    if kind == "choice":
        return letter_of(gold, choices)
    return yes_or_no(gold) if kind == "yesno" else plain(gold) or None


def matches(
    extracted: Extracted | None, gold: str, kind: Kind, choices: Sequence[str] | None = None
) -> bool:
    """Whether an extracted answer equals the gold one; False where either is missing or unreadable."""
    wanted = canonical(gold, kind, choices)
    if extracted is None or wanted is None:
        return False
    if kind != "numeric" or extracted.value == wanted:
        return extracted.value == wanted
    given, sought = parse_number(extracted.value), parse_number(wanted)
    return given is not None and sought is not None and agree(given, sought)


def is_correct(text: str, gold: str, kind: Kind, choices: Sequence[str] | None = None) -> bool:
    """Whether the answer of a text is the gold answer."""
    return matches(extract(text, kind, choices), gold, kind, choices)
