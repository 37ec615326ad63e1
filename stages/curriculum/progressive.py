"""From the last steps to the whole rationale: at each stage a set of rationales, diverse and just hard enough, is given less.

Source: Feng et al., "Keypoint-based Progressive Chain-of-Thought Distillation for LLMs", ICML 2024 (KPOD), section 3.4, equations
9 to 13, algorithm 1, appendix A. The schedule depends on difficulties alone, so it is made once, before any training.
"""

from __future__ import annotations

from kpod.runner import Assignment, Context, Curriculum, Difficulty, Input, Output, Rationale, Stage
from kpod.stages.curriculum._settings import Config


class Progressive(Stage[Config]):
    """How many steps of each rationale are given at each epoch, by difficulty and diversity."""

    uses = "curriculum.progressive"
    version = 1
    determinism = "pure"
    rationales = Input(Rationale)
    difficulty = Input(Difficulty)
    clusters = Input(Assignment)
    curriculum = Output(Curriculum)

    def run(self, ctx: Context[Config]) -> None:
        """Select stage by stage, and write what every epoch gives."""
        from kpod.stages.curriculum._epochs import curriculum_rows, epoch_facts, summary
        from kpod.stages.curriculum._schedule import Schedule
        from kpod.stages.curriculum._selection import select
        from kpod.stages.curriculum._units import read_units

        config = ctx.config
        units = read_units(
            ctx.read(self.rationales), ctx.read(self.difficulty), ctx.read(self.clusters)
        )
        states = Schedule(
            units,
            config,
            choose=lambda costs, clusters, budget: select(
                costs, clusters, budget=budget, beta=config.diversity
            ),
            tick=lambda done: ctx.progress(done, config.num_stages, unit="stages"),
        ).states()
        with ctx.write(self.curriculum) as out:
            for row in curriculum_rows(units, states, num_epochs=config.num_epochs):
                out.add(row)
        facts = epoch_facts(units, states, num_epochs=config.num_epochs)
        ctx.note("epochs", facts)
        ctx.note("summary", summary(facts, num_units=len(units)))
