"""Reads the weights that a model, its base, or what it points to holds."""

from dataclasses import dataclass
from typing import Annotated

from kpod.runner import Context, Doc, Input, Model, Output, Rationale, Stage
from kpod_chain import journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Something to change, so that it reads again."""

    turn: Annotated[int, Doc("Any number.")] = 0


class Reader(Stage[Config]):
    """The text of the weights, as a record."""

    uses = "chain.reader"
    version = 1
    model = Input(Model)
    said = Output(Rationale)

    def run(self, ctx: Context[Config]) -> None:
        """Find the weights and copy their text."""
        journal.write("reader")
        folder = ctx.path(self.model)
        if (folder / "base.txt").exists():
            folder = ctx.artifact((folder / "base.txt").read_text(encoding="utf-8"))
        weights = (ctx.pointed(folder) or folder) / "weights.txt"
        text = weights.read_text(encoding="utf-8") if weights.exists() else "none"
        with ctx.write(self.said) as out:
            out.add(Rationale.make("weights", text, teacher="reader"))
