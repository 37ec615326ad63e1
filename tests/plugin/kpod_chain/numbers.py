"""Questions from a text file, one number a line, or the first few numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from kpod.runner import Context, Doc, Ge, LocalFile, LocalPath, Output, Question, Source, Stage
from kpod_chain import journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Which numbers."""

    count: Annotated[int, Doc("How many numbers, without a file."), Ge(0)] = 10
    path: Annotated[str | None, LocalPath(), Doc("A file with a number a line.")] = None


class Numbers(Stage[Config]):
    """Questions that are numbers."""

    uses = "chain.numbers"
    version = 1
    questions = Output(Question, role="train")

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The file."""
        return (
            {}
            if config.path is None
            else {"path": LocalFile(config.path, how_to_get="write one yourself")}
        )

    def run(self, ctx: Context[Config]) -> None:
        """Write a question a number."""
        journal.write("numbers")
        if ctx.config.path is None:
            numbers = [str(number) for number in range(ctx.config.count)]
        else:
            numbers = ctx.source("path").read_text(encoding="utf-8").split()
        with ctx.write(self.questions) as out:
            for number in numbers:
                out.add(
                    Question.make(
                        number, kind="numeric", answer=number, split="train", source="chain"
                    )
                )
