"""The data set's own solutions as rationales."""

from __future__ import annotations

import pytest

from kpod.runner import Question, Rationale, StageError
from kpod.stages.teacher.reference import Config, Reference
from tests.stages.fakes import FakeContext


def question(text: str, solution: str | None) -> Question:
    return Question.make(
        text, kind="numeric", answer="72", split="train", source="gsm8k", solution=solution
    )


def run(*questions: Question) -> FakeContext[Config]:
    ctx = FakeContext(config=Config(), inputs={"questions": questions})
    Reference().run(ctx)
    return ctx


def test_marks_of_the_calculator_and_the_answer_line_are_taken_out() -> None:
    clips = question("Clips?", "48/2 = <<48/2=24>>24 in May.\n48+24 = $<<48+24=72>>72.\n#### 72")
    ctx = run(clips)

    text = "48/2 = 24 in May.\n48+24 = $72."
    assert [Rationale.make(clips.id, text, teacher="reference")] == ctx.rows("rationales")


def test_questions_without_a_solution_are_counted() -> None:
    ctx = run(question("a", "So 72."), question("b", None), question("c", "#### 72"))

    assert ctx.notes == {
        "rationales": 1,
        "questions_without_rationale": 2,
        "summary": "1 rationales for 3 questions",
    }


def test_no_solution_at_all_is_an_error() -> None:
    with pytest.raises(StageError, match="none of 1 questions has a solution of its own\n"):
        run(question("a", None))
