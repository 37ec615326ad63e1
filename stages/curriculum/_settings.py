"""The settings of a progressive schedule, shared with its random control so that one arm can be like the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kpod.runner import Doc, Ge, Gt, Lt, SettingError

Start = Literal["fill", "per_question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How fast the students are given less and have to write more."""

    epochs: Annotated[
        int | None,
        Doc("Epochs of the students that take it; null: as many as they have."),
        Ge(1),
    ] = None
    stages: Annotated[
        int | None,
        Doc(
            "T: the first T epochs are stages, after them everything is generated;"
            " null: half of the epochs (KPOD App. A), at least 1."
        ),
        Ge(1),
    ] = None
    initial_frac: Annotated[
        float,
        Doc("C_0 / B: share of the whole difficulty that is generated at stage 0 (KPOD App. A)."),
        Ge(0),
        Lt(1),
    ] = 0.3
    growth: Annotated[
        float,
        Doc(
            "p: the ceiling grows as (t / T) ** (p + 1), so more means later (KPOD eq. 10, App. A)."
        ),
        Gt(0),
    ] = 0.5
    diversity: Annotated[
        float,
        Doc(
            "beta, in nats: worth of drawing from several clusters, beside the difficulty itself"
            " (KPOD eq. 12, App. A); curriculum.random draws without looking at it."
        ),
        Ge(0),
    ] = 12.0
    steps_per_stage: Annotated[
        int,
        Doc(
            "Delta_s: steps that a rationale moves in one stage (KPOD eq. 11 gives no value: our choice)."
        ),
        Ge(1),
    ] = 1
    start: Annotated[
        Start,
        Doc(
            "How stage 0 comes about, which the paper leaves open. fill: from the answer alone, the selection is"
            " repeated under C_0 until nothing fits; per_question: of each rationale the longest end that has at"
            " most the share initial_frac of its own difficulty."
        ),
    ] = "fill"

    def __post_init__(self) -> None:
        if self.epochs is not None and self.stages is not None and self.stages > self.epochs:
            raise SettingError(
                "stages",
                f"got {self.stages} stages in {self.epochs} epochs; a stage is an epoch",
                hint=f"set at most {self.epochs}, or null for half of the epochs",
            )

    @property
    def num_epochs(self) -> int:
        """The epochs, which the runner has filled in from the students where the recipe leaves them out."""
        assert self.epochs is not None, "the runner fills epochs in before a stage runs"
        return self.epochs

    @property
    def num_stages(self) -> int:
        """T, at least 1 and at most the number of epochs."""
        return max(1, self.num_epochs // 2) if self.stages is None else self.stages
