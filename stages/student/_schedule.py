"""The learning rate of every optimizer step, as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How the learning rate moves.

    Args:
        name: what follows the warm-up: constant, or falling to 0 after the last step, linearly or as half a cosine.
        peak: learning rate at the end of the warm-up.
        warmup_frac: share of all steps in which it rises from 0, linearly.
        num_steps: optimizer steps of the whole training.
    """

    name: ScheduleName
    peak: float
    warmup_frac: float
    num_steps: int

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        num_warmup = math.ceil(self.warmup_frac * self.num_steps)
        if step < num_warmup:
            return self.peak * (step + 1) / num_warmup
        passed = (step - num_warmup) / max(1, self.num_steps - num_warmup)
        if self.name == "linear":
            return self.peak * (1 - passed)
        if self.name == "cosine":
            return self.peak * (1 + math.cos(math.pi * passed)) / 2
        return self.peak
