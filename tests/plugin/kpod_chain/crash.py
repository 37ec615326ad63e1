"""A stage with a mistake in it."""

from dataclasses import dataclass

from kpod.runner import Context, Output, Question, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to set."""


class Crash(Stage[Config]):
    """Divides by zero."""

    uses = "chain.crash"
    version = 1
    questions = Output(Question, role="train")

    def run(self, ctx: Context[Config]) -> None:
        """Fail."""
        nothing = len("")
        ctx.note("ratio", 1 / nothing)
