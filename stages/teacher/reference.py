r"""The data set's own worked solutions as rationales: a teacher that costs nothing, and the upper mark for others.

GSM8K: "48/2 = <<48/2=24>>24 clips in May.\n#### 72" gives "48/2 = 24 clips in May.": the calculator's marks and
the line with the answer are not reasoning. Source: Cobbe et al. 2021, arXiv 2110.14168, for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpod.runner import Input, Output, Question, Rationale, Stage, StageError
from kpod.stages._lm.solutions import plain_solution

if TYPE_CHECKING:
    from kpod.runner import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """teacher.reference has no settings."""


class Reference(Stage[Config]):
    """One rationale for each question that has a solution."""

    uses = "teacher.reference"
    version = 1
    determinism = "pure"
    questions = Input(Question, role="train")
    rationales = Output(Rationale)

    def run(self, ctx: Context[Config]) -> None:
        """Write the solutions, and note how many questions have none.

        Raises:
            StageError: no question has a solution.
        """
        rationales: list[Rationale] = []
        num_questions = 0
        for question in ctx.read(self.questions):
            num_questions += 1
            text = plain_solution(question.solution or "")
            if text:
                rationales.append(Rationale.make(question.id, text, teacher="reference"))
        ctx.note("rationales", len(rationales))
        ctx.note("questions_without_rationale", num_questions - len(rationales))
        ctx.note("summary", f"{len(rationales):,} rationales for {num_questions:,} questions")
        if not rationales:
            raise StageError(
                f"teacher.reference: none of {num_questions} questions has a solution of its own\n"
                "  allowed: data with worked solutions, such as data.gsm8k or data.word_problems\n"
                "  map the solution column in the data stage, or use another teacher"
            )
        with ctx.write(self.rationales) as out:
            for rationale in rationales:
                out.add(rationale)
