"""Whether what a model said is right: for evaluation, and for a student that is judged while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Question, StageError
from kpod.stages._lm.answers import Extracted, canonical, extract, matches

if TYPE_CHECKING:
    from kpod.runner.texts import GeneratedText


class Judged(NamedTuple):
    """What a text answers.

    Args:
        found: the answer in it and the rule that found it; None where there is none.
        is_correct: a text that was cut at the limit is wrong; None where the question has no gold answer.
    """

    found: Extracted | None
    is_correct: bool | None


def judged(question: Question, text: GeneratedText) -> Judged:
    """What a text answers, and whether that is right."""
    found = extract(text.text, question.kind, question.choices)
    if question.answer is None:
        return Judged(found, None)
    is_right = matches(found, question.answer, question.kind, question.choices)
    return Judged(found, text.finish == "stop" and is_right)


def check_gold(questions: Sequence[Question]) -> None:
    """There is something to score, and every gold answer can be read.

    Raises:
        StageError: no questions, or gold answers that no text could ever match.
    """
    if not questions:
        raise StageError(
            "there are no questions to evaluate on; check the data stage's limit and split"
        )
    unreadable = [
        question
        for question in questions
        if question.answer is not None
        and canonical(question.answer, question.kind, question.choices) is None
    ]
    if unreadable:
        first = unreadable[0]
        raise StageError(
            f"question {first.id}: its gold answer {first.answer!r} cannot be read as {first.kind}"
            f" ({len(unreadable)} of {len(questions)} questions have such an answer), so no text could match it\n"
            "correct the data, or the kind that the data stage gives them"
        )
