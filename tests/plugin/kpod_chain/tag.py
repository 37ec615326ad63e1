"""Puts a word before every question; has no version, so that its code stands for it."""

from dataclasses import dataclass
from typing import Annotated

from kpod.runner import Context, Doc, Input, Output, Question, Stage
from kpod_chain import journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Which word."""

    word: Annotated[str, Doc("Put before every text.")] = "number"


class Tag(Stage[Config]):
    """A word before every question."""

    uses = "chain.tag"
    questions = Input(Question, role="train")
    tagged = Output(Question, role="train", refines="questions")

    def run(self, ctx: Context[Config]) -> None:
        """Write every question anew."""
        journal.write("tag")  # a line in the journal
        with ctx.write(self.tagged) as out:
            for question in ctx.read(self.questions):
                text = f"{ctx.config.word} {question.text}"
                out.add(
                    Question.make(
                        text, kind="numeric", answer=question.answer, split="train", source="chain"
                    )
                )
