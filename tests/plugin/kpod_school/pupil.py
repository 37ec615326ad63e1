"""A plan, the same played backwards, and a pupil: stages that share the setting `epochs`."""

from dataclasses import dataclass
from typing import Annotated

from kpod_chain import journal

from kpod.runner import Context, Curriculum, Doc, Ge, Input, Model, Output, SettingError, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanConfig:
    """How long the plan is."""

    epochs: Annotated[int | None, Doc("Epochs; null: those of whoever takes the plan."), Ge(2)] = (
        None
    )


class Plan(Stage[PlanConfig]):
    """One row with its length."""

    uses = "school.plan"
    version = 1
    plan = Output(Curriculum)

    def run(self, ctx: Context[PlanConfig]) -> None:
        """Write the row."""
        journal.write("plan")
        epochs = ctx.config.epochs
        assert epochs is not None
        with ctx.write(self.plan) as out:
            given = tuple(reversed(range(epochs)))
            out.add(
                Curriculum(rationale_id="all", num_steps=epochs, given=given, cut=(0,) * epochs)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardsConfig:
    """Nothing to set."""


class Backwards(Stage[BackwardsConfig]):
    """A plan from its end."""

    uses = "school.backwards"
    version = 1
    plan = Input(Curriculum, agree=("epochs",))
    reverse = Output(Curriculum)

    def run(self, ctx: Context[BackwardsConfig]) -> None:
        """Write the row."""
        journal.write("backwards")
        with ctx.write(self.reverse) as out:
            for row in ctx.read(self.plan):
                out.add(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class PupilConfig:
    """How long is learned."""

    epochs: Annotated[int | None, Doc("Epochs; null: as many as the budget allows."), Ge(1)] = 3
    fast: Annotated[bool, Doc("Allows at most 8 epochs.")] = False

    def __post_init__(self) -> None:
        if self.fast and self.epochs is not None and self.epochs > 8:
            raise SettingError("epochs", f"fast takes at most 8, got {self.epochs}")


class Pupil(Stage[PupilConfig]):
    """Learns nothing."""

    uses = "school.pupil"
    version = 1
    seeded = "recipe"
    plan = Input(Curriculum, optional=True, agree=("epochs",))
    budget = Input(Curriculum, optional=True, replaces=("epochs",))
    pupil = Output(Model)

    def run(self, ctx: Context[PupilConfig]) -> None:
        """Write how long it learned, and from which seed it began."""
        journal.write("pupil")
        told = f"{ctx.config.epochs or 0} {ctx.seed}"
        with ctx.folder(self.pupil) as folder:
            (folder / "epochs.txt").write_text(told, encoding="utf-8")
