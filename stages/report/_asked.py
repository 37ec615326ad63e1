"""A question as a page shows it: what was asked, the choices, and the gold answer."""

from __future__ import annotations

from dataclasses import dataclass

from kpod.runner import Question
from kpod.stages.report._passage import shortened


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question, its long texts shortened."""

    id: str
    text: str
    choices: tuple[str, ...]
    gold: str | None


def asked(question: Question | None, id_: str) -> Asked:
    """The question with this id; where the archive has none, one that says so."""
    if question is None:
        return Asked(
            id=id_, text=f"(the question {id_} is not in the archive)", choices=(), gold=None
        )
    return Asked(
        id=id_,
        text=shortened(question.text),
        choices=tuple(shortened(choice) for choice in question.choices or ()),
        gold=None if question.answer is None else shortened(question.answer),
    )
