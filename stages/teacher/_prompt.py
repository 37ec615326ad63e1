"""What teachers are asked, whoever answers: the question, examples before it, and a hint for questions still unsolved.

The hint is rationalisation, Zelikman et al. 2022 (STaR, arXiv 2203.14465), section 3.2: a model that fails on a question is
asked again with the right answer given, so that it reasons towards it. What it then says is marked as hinted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from kpod.runner import Doc, Question, Rationale, SettingError, StageError
from kpod.stages._lm.examples import Example as Example
from kpod.stages._lm.examples import turns_of
from kpod.stages._lm.prompts import question_text

# The wordings are our choice. The last line is what the answer extractor reads first (PRACTICE 5).
_ENDS = (
    "Think step by step: one short step a line, with its arithmetic. "
    "End with a last line of the form: The answer is N."
)
_ASKS = "{question}\n\n" + _ENDS
_HINTS = (
    "{question}\n\n"
    "The right answer is {answer}. Reason towards it as if you did not know it, and do not mention that it was given. "
) + _ENDS
_SLOT = re.compile(r"\{(question|answer)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPrompt:
    """What the teacher reads."""

    template: Annotated[
        str,
        Doc("The text, with {question}; a multiple-choice question brings its lettered choices."),
    ] = _ASKS
    system: Annotated[str | None, Doc("System message; only in a chat.")] = None
    examples: Annotated[
        tuple[Example, ...],
        Doc(
            "Solved examples shown before every question: in a chat as turns, in a plain prompt as text before it."
        ),
    ] = ()
    hint: Annotated[
        str,
        Doc(
            "The text for questions that the input `solved` leaves open, with {question} and the gold {answer}."
        ),
    ] = _HINTS

    def __post_init__(self) -> None:
        for name, text in (("template", self.template), ("hint", self.hint)):
            if text.count("{question}") != 1:
                raise SettingError(
                    name,
                    f"has {{question}} {text.count('{question}')} times",
                    hint="write it exactly once",
                )
        if "{answer}" in self.template:
            raise SettingError(
                "template",
                "has {answer}, which would tell the teacher every answer",
                hint="only prompt.hint may hold it",
            )
        if "{answer}" not in self.hint:
            raise SettingError("hint", "has no {answer}", hint="the hint is the gold answer")


class Ask(NamedTuple):
    """One question as it is put to a teacher.

    Args:
        question: what is asked.
        text: the user's turn.
        is_hinted: whether the text gives the answer away.
    """

    question: Question
    text: str
    is_hinted: bool


def asks(
    prompt: AskPrompt, questions: Sequence[Question], *, solved: Collection[str] | None
) -> list[Ask]:
    """What is asked, in the order of the questions.

    Args:
        prompt: the wording.
        questions: each at most once.
        solved: ids of the questions that need no hint and are not asked, nor are those left open that have no gold answer to
            hint at; None asks every question, plainly.

    Raises:
        StageError: an id in `solved` is no question's, or no question left open has a gold answer.
    """
    if solved is None:
        return [
            Ask(question, ask_text(prompt, question_text(question)), False)
            for question in questions
        ]
    unknown = sorted(set(solved) - {question.id for question in questions})
    if unknown:
        raise StageError(
            f"solved: question {unknown[0]} is not among the {len(questions):,} questions"
            f" ({len(unknown):,} such)\nwire the rationales of these questions, or the questions of these rationales"
        )
    unsolved = [question for question in questions if question.id not in solved]
    hinted = [question for question in unsolved if question.answer is not None]
    if unsolved and not hinted:
        raise StageError(
            f"question {unsolved[0].id} is unsolved and has no gold answer to hint at"
            f" (none of {len(unsolved):,} unsolved questions has)\n"
            "hint only where there is gold; leave the input solved out"
        )
    return [Ask(question, _hint_text(prompt, question), True) for question in hinted]


def ask_text(prompt: AskPrompt, question: str) -> str:
    """The template with this text as its question, without white space at its end."""
    return _filled(prompt.template, {"question": question})


def _hint_text(prompt: AskPrompt, question: Question) -> str:
    assert question.answer is not None, "asks refuses questions without gold"
    return _filled(prompt.hint, {"question": question_text(question), "answer": question.answer})


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its slots filled in one pass, so that a question may hold braces."""
    return _SLOT.sub(lambda slot: values[slot.group(1)], template.rstrip())


def messages(prompt: AskPrompt, ask: Ask) -> list[dict[str, str]]:
    """The chat: system message, examples as turns of user and assistant, then what is asked."""
    chat = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    for example in prompt.examples:
        chat += turns_of(example, fill=lambda question: ask_text(prompt, question))
    return [*chat, {"role": "user", "content": ask.text}]


def solved_ids(rationales: Iterable[Rationale]) -> set[str]:
    """Ids of the questions that have a rationale which a filter found correct, or which won its vote.

    Raises:
        StageError: a rationale has neither verdict nor answer, because no filter has judged it.
    """
    found: set[str] = set()
    for rationale in rationales:
        if rationale.verdict is None and rationale.answer is None:
            raise StageError(
                f"solved: rationale {rationale.id} of question {rationale.question_id} has no verdict\n"
                "wire a filter's output, such as filter.verified, not a teacher's"
            )
        if rationale.verdict in {"correct", None}:
            found.add(rationale.question_id)
    return found
