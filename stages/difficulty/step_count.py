"""Every step as hard as every other: the control without a model, so that a curriculum only counts steps.

Source: our choice; in KPOD's own terms Eq. 8 with the same likelihood for every token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpod.runner import Difficulty, Input, Output, Rationale, Stage
from kpod.stages._lm.steps import Rule

if TYPE_CHECKING:
    from kpod.runner import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a step is."""

    steps: Rule = "sentence"


class StepCount(Stage[Config]):
    """One unit for each step, in place of nats."""

    uses = "difficulty.step_count"
    version = 1
    determinism = "pure"
    rationales = Input(Rationale)
    difficulty = Output(Difficulty)

    def run(self, ctx: Context[Config]) -> None:
        """Cut every rationale into steps of difficulty 1.

        Raises:
            StageError: there is no rationale, or one has no step.
        """
        from kpod.stages.difficulty._facts import note_steps
        from kpod.stages.difficulty._steps import steps_by_rationale

        rationales = list(ctx.read(self.rationales))
        spans = steps_by_rationale(rationales, rule=ctx.config.steps)
        rows = [
            Difficulty(
                rationale_id=row.id, steps=tuple((start, end, 1.0) for start, end in spans[row.id])
            )
            for row in rationales
        ]
        with ctx.write(self.difficulty) as out:
            for row in rows:
                out.add(row)
        note_steps(ctx, rationales, rows)
        num_steps = sum(len(row.steps) for row in rows)
        ctx.note(
            "summary", f"{num_steps:,} steps in {len(rows):,} rationales, each of difficulty 1"
        )
