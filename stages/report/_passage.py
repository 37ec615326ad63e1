"""A text as a page shows it: its answer marked, and very long ones with their middle left out."""

from __future__ import annotations

from dataclasses import dataclass

from kpod.runner import Question
from kpod.stages._lm.answers import extract

# GSM8K's longest human solution has about 1,200 characters; a text that runs on has many more.
_MOST_CHARACTERS = 1500
_TAIL = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A text in three parts that follow each other.

    Args:
        before, after: plain.
        answer: the part that the answer was read from; "" where there is none.
    """

    before: str
    answer: str
    after: str


def passage(text: str, *, question: Question | None, answer: str | None) -> Passage:
    """The text with its answer marked where this version's extractor still finds the recorded answer.

    Args:
        text: what a model or a teacher wrote.
        question: that it answers; None where it is not known.
        answer: what was recorded as extracted.
    """
    found = extract(text, question.kind, question.choices) if question and answer else None
    if found is None or found.value != answer:
        return Passage(before=shortened(text), answer="", after="")
    start, end = found.span
    return Passage(
        before=shortened(text[:start]), answer=text[start:end], after=shortened(text[end:])
    )


def shortened(text: str) -> str:
    """The text, or its beginning and end with a word on how much is left out."""
    if len(text) <= _MOST_CHARACTERS:
        return text
    head = text[: _MOST_CHARACTERS - _TAIL]
    left_out = len(text) - len(head) - _TAIL
    return f"{head} [… {left_out:,} characters left out …] {text[-_TAIL:]}"
