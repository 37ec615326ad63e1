"""What learned weights look like: their means over the classes of words that the paper's heat-maps show.

Source: KPOD Fig. 2 (GSM8K): digits and operators weigh most, names fairly much, fillers such as can, say, fit little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from kpod.runner import Question, Rationale, TokenWeights
from kpod.stages.weighting._numbers import number_runs

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# Articles, prepositions, pronouns, auxiliaries and conjunctions of English, and the fillers that Fig. 2 shows.
_FILLERS = frozenset(re.findall(r"\S+", """
    a an the of in on at to for from with by into and or but so then also as that this these those it its there is are
    was were be been being has have had do does did can could will would may might let's let us we you i he she they
    them him his her their our your my say fit received got
"""))  # fmt: skip


class MeanWeights(NamedTuple):
    """Mean weight over the spans of each class; None where there is none."""

    digits_and_operators: float | None
    names: float | None
    fillers: float | None
    all: float | None


def mean_weights(
    rows: Iterable[tuple[Question, Rationale, TokenWeights]],
) -> MeanWeights:
    """Means over all spans of all rationales; a span belongs to the class of its first character that is no space."""
    sums = {"number": [0.0, 0], "name": [0.0, 0], "filler": [0.0, 0], "all": [0.0, 0]}
    for question, rationale, weights in rows:
        classes = character_classes(rationale.text, question.text)
        for (start, end), weight in zip(weights.spans, weights.weights, strict=True):
            text = rationale.text[start:end]
            first = start + len(text) - len(text.lstrip())
            for name in {"all", classes.get(first, "all")}:
                sums[name][0] += weight
                sums[name][1] += 1
    means = {name: total / count if count else None for name, (total, count) in sums.items()}
    return MeanWeights(means["number"], means["name"], means["filler"], means["all"])


def character_classes(text: str, question: str) -> dict[int, str]:
    """`number`, `name` or `filler` for each character that belongs to one.

    A name is a capitalised word that does not begin a sentence, or that stands so in the question, and is no filler.
    """
    known = set(_capitalised_inside(question)) | set(_capitalised_inside(text))
    classes: dict[int, str] = {}
    for start, end in number_runs(text):
        classes |= dict.fromkeys(range(start, end), "number")
    for match in _WORD.finditer(text):
        word = match[0]
        is_filler = word.lower().replace("’", "'") in _FILLERS
        found = "filler" if is_filler else "name" if word in known else None
        if found:
            classes |= dict.fromkeys(range(*match.span()), found)
    return classes


def _capitalised_inside(text: str) -> Iterable[str]:
    """Capitalised words that do not stand at the beginning of a sentence."""
    for match in _WORD.finditer(text):
        before = text[: match.start()].rstrip(" \t\"'“(")
        is_first = not before or before[-1] in ".!?:\n"
        if match[0][0].isupper() and not is_first and match[0].lower() not in _FILLERS:
            yield match[0]
