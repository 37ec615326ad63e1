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
        before=shortened(text[:start]),
        answer=shortened(text[start:end]),
        after=shortened(text[end:]),
    )


def shortened(text: str, *, most: int = _MOST_CHARACTERS, tail: int = _TAIL) -> str:
    """The text, or its beginning and end with a word on how much is left out.

    Args:
        text: any.
        most: characters that are kept of a longer one.
        tail: of these, how many from its end.
    """
    if len(text) <= most:
        return text
    head = text[: most - tail]
    left_out = len(text) - len(head) - tail
    return f"{head} [… {left_out:,} characters left out …] {text[-tail:]}"
