"""The control for what the selection is worth: the ceilings of curriculum.progressive, filled with rationales drawn at random.

Not in the paper, which has no such row (KPOD table 2 drops or replaces the whole schedule): our control.
"""

from __future__ import annotations

from kpod.runner import Assignment, Context, Curriculum, Difficulty, Input, Output, Rationale, Stage
from kpod.stages.curriculum._settings import Config


class Random(Stage[Config]):
    """How many steps of each rationale are given at each epoch, drawn at random under the same ceilings."""

    uses = "curriculum.random"
    version = 1
    seeded = "recipe"
    determinism = "seeded"
    rationales = Input(Rationale)
    difficulty = Input(Difficulty)
    clusters = Input(Assignment)
    curriculum = Output(Curriculum)

    def run(self, ctx: Context[Config]) -> None:
        """Draw stage by stage, and write what every epoch gives."""
        from random import Random as Stream

        from kpod.stages.curriculum._draw import draw
        from kpod.stages.curriculum._epochs import curriculum_rows, epoch_facts, summary
        from kpod.stages.curriculum._schedule import Schedule
        from kpod.stages.curriculum._units import read_units

        config = ctx.config
        stream = Stream(ctx.seed)  # noqa: S311 - nothing secret
        units = read_units(
            ctx.read(self.rationales), ctx.read(self.difficulty), ctx.read(self.clusters)
        )
        states = Schedule(
            units,
            config,
            choose=lambda costs, _, budget: draw(costs, budget=budget, stream=stream),
            tick=lambda done: ctx.progress(done, config.num_stages, unit="stages"),
        ).states()
        with ctx.write(self.curriculum) as out:
            for row in curriculum_rows(units, states, num_epochs=config.num_epochs):
                out.add(row)
        facts = epoch_facts(units, states, num_epochs=config.num_epochs)
        ctx.note("epochs", facts)
        ctx.note("summary", summary(facts, num_units=len(units)))
