"""How a student is judged on validation questions while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kpod.runner import Doc, Ge, SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Validate:
    """When to judge, by what, and when to stop. The best student is kept, not the last."""

    metric: Annotated[
        Literal["accuracy", "loss"],
        Doc(
            "accuracy: greedy answers to the validation questions; loss: nats a target token of the validation rationales, "
            "which must be wired."
        ),
    ] = "accuracy"
    every_epochs: Annotated[int, Doc("Epochs between two judgements."), Ge(1)] = 1
    patience: Annotated[
        int | None,
        Doc("Training ends after so many judgements in a row that are no better; null: never."),
        Ge(1),
    ] = None
    max_new_tokens: Annotated[int, Doc("Longest text, in tokens; only for accuracy."), Ge(1)] = 256

    def __post_init__(self) -> None:
        if self.metric == "loss" and self.max_new_tokens != 256:
            raise SettingError(
                "max_new_tokens",
                "the metric loss writes no texts",
                hint="set metric: accuracy, or drop it",
            )
