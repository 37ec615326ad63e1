"""A model that is a small change of another one, which it needs."""

from dataclasses import dataclass

from kpod.runner import Context, Input, Model, Output, Stage
from kpod_chain import journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to set."""


class Adapter(Stage[Config]):
    """A file that names its base."""

    uses = "chain.adapter"
    version = 1
    model = Input(Model)
    adapter = Output(Model)

    def run(self, ctx: Context[Config]) -> None:
        """Write the name of the base, and refer to it."""
        journal.write("adapter")
        base = ctx.digest(self.model)
        ctx.refer(base)
        with ctx.folder(self.adapter) as folder:
            (folder / "base.txt").write_text(base, encoding="utf-8")
