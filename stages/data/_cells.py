"""Cells of a data set as the texts that a Question holds: gold answers and lettered choices."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from kpod.runner import Kind, StageError

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_ASKED = re.compile(
    r"(?P<question>.*\S)\s+Answer Choices:[ \t]*\n(?P<choices>[A-Z]\.[^\n]*(?:\n[A-Z]\.[^\n]*)*)\s*",
    re.DOTALL,
)
_INTEGRAL = re.compile(r"([-+]?\d+)\.0+")


class Choices(NamedTuple):
    """The texts of the choices, and the label that the data set gives each (A, B, C … where it gives none)."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


class AskedWithChoices(NamedTuple):
    """A question's text and the choices that stood under it."""

    question: str
    choices: Choices


def answer_text(value: Any, kind: Kind, where: str) -> str | None:
    """The gold answer as text; None where the cell is empty.

    Numbers lose thousands commas and a fraction of zero (`1,080` is `1080`, `51.0` is `51`); true and false are yes and no.

    Raises:
        StageError: the cell holds a list, an object, or a number that is not finite.
    """
    if value is None or value == "":
        return None
    if isinstance(value, list | Mapping) or (isinstance(value, float) and not math.isfinite(value)):
        raise StageError(
            f"{where}: got the answer {value!r}\n"
            "  allowed: a text, a finite number, true or false, or null where there is no gold answer\n"
            "  map the setting 'columns.answer' to the column of the gold answer"
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).strip()
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    if kind == "yesno":
        return text.lower()
    return _plain_number(text) if kind == "numeric" else text


def _plain_number(text: str) -> str:
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    integral = _INTEGRAL.fullmatch(text)
    return integral.group(1) if integral else text


def choice_texts(value: Any, where: str) -> Choices:
    """The choices of a cell: a list of texts, a list of `{label, text}`, or `{label: […], text: […]}`.

    Raises:
        StageError: it is none of these, or holds fewer than two choices or more than 26.
    """
    labels, texts = _columns(value)
    are_texts = all(isinstance(item, str) for item in [*texts, *labels])
    if not are_texts or len(texts) != len(labels) or not 2 <= len(texts) <= len(_LETTERS):
        raise StageError(
            f"{where}: got the choices {value!r}\n"
            "  allowed: a list of 2 to 26 texts, or of {label, text}, or {label: [...], text: [...]}\n"
            "  map the setting 'columns.choices' to the column of the choices"
        )
    return Choices(tuple(text.strip() for text in texts), tuple(labels))


def choices_in_text(text: str, where: str) -> AskedWithChoices:
    """The question and its choices, where the text ends in `Answer Choices:` and a line `A. …`, `B. …` for each.

    Source: the CommonsenseQA files of MCC-KD, which is also how kpod's prompts write choices (KPOD 5).

    Raises:
        StageError: the text does not end so, or its letters are not A, B, C … in this order.
    """
    found = _ASKED.fullmatch(text)
    lines = found["choices"].splitlines() if found else []
    labels = [line[0] for line in lines]
    if found is None or labels != list(_LETTERS[: len(lines)]):
        raise StageError(
            f"{where}: got the question {text[-60:]!r}, which ends in no choices\n"
            "  allowed: Answer Choices: and a line for each, 'A. …', 'B. …', or a column of choices\n"
            "  map the setting 'columns.choices' to the column of the choices"
        )
    texts = [line[2:].strip() for line in lines]
    return AskedWithChoices(found["question"], choice_texts(texts, where))


def _columns(value: Any) -> tuple[list[Any], list[Any]]:
    """Labels and texts as two lists; empty where the cell is of another form."""
    if isinstance(value, Mapping):
        labels, texts = value.get("label"), value.get("text")
        return (labels, texts) if isinstance(labels, list) and isinstance(texts, list) else ([], [])
    if not isinstance(value, list):
        return [], []
    if all(isinstance(item, Mapping) for item in value):
        return [item.get("label") for item in value], [item.get("text") for item in value]
    return list(_LETTERS[: len(value)]), value


def choice_letter(answer: str | None, choices: Choices, where: str) -> str | None:
    """The letter (by position) of the right choice, named by its label or its text; None where there is no gold.

    Raises:
        StageError: the answer is neither a label nor the text of exactly one choice.
    """
    if answer is None:
        return None
    if answer in choices.labels:
        return _LETTERS[choices.labels.index(answer)]
    if choices.texts.count(answer) == 1:
        return _LETTERS[choices.texts.index(answer)]
    named = [f"{label} ({text})" for label, text in zip(choices.labels, choices.texts, strict=True)]
    raise StageError(
        f"{where}: got the answer {answer!r}, which is none of the choices\n"
        f"  allowed: {', '.join(named)}\n  mend the row"
    )
