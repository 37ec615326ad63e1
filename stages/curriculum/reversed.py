"""The control for the direction: another curriculum's stages, played from the last to the first, then everything generated.

Not in the paper (KPOD table 2 has no such row): our control. What the student is given is the same in sum over the stages.
"""

from __future__ import annotations

from dataclasses import dataclass

from kpod.runner import Context, Curriculum, Input, Output, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to set: the curriculum that it reverses says all."""


class Reversed(Stage[Config]):
    """The same curriculum with its stages in reverse order."""

    uses = "curriculum.reversed"
    version = 1
    determinism = "pure"
    curriculum = Input(Curriculum, agree=("epochs",))
    reversed = Output(Curriculum)

    def run(self, ctx: Context[Config]) -> None:
        """Turn the stages around; the epochs after them stay."""
        from kpod.stages.curriculum._turning import num_stages, turned

        rows = list(ctx.read(self.curriculum))
        stages = num_stages(rows)
        with ctx.write(self.reversed) as out:
            for done, row in enumerate(rows):
                if done % 10_000 == 0:
                    ctx.progress(done, len(rows), unit="rationales")
                out.add(turned(row, stages))
        ctx.note("summary", f"{len(rows):,} rationales, stages {stages} to 1, then all generated")
