"""Counts the questions of each of several sources: one unit an element."""

from dataclasses import dataclass

from kpod.runner import Assignment, Context, Input, Output, Question, Stage
from kpod_chain import journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to set."""


class Count(Stage[Config]):
    """How many questions each source has."""

    uses = "chain.count"
    version = 1
    questions = Input(Question, role="train", each=True)
    counts = Output(Assignment)

    def run(self, ctx: Context[Config]) -> None:
        """Write one row."""
        journal.write("count")
        number = sum(1 for _ in ctx.read(self.questions))
        ctx.note("summary", f"{number} questions")
        with ctx.write(self.counts) as out:
            out.add(Assignment(question_id="all", cluster=number))
