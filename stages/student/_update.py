"""What turns the micro-batches of an optimizer step into new weights: gradients, their norm, one step of the optimizer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Batch
from kpod.stages.student._loss import backward
from kpod.stages.student._team import Team

if TYPE_CHECKING:
    import torch


class Update(Protocol):
    """Adds gradients up and applies them."""

    def backward(self, batch: Batch, *, denominator: float) -> torch.Tensor:
        """Add a micro-batch's gradient; its part of the step's loss, in nats, without gradient.

        Args:
            batch: with at least one target.
            denominator: > 0, of the whole optimizer step.
        """

    def apply(self, rate: float, *, is_wanted: bool) -> float:
        """Clip the gradient, make one step of the optimizer and forget the gradient.

        Args:
            rate: learning rate.
            is_wanted: False: leave the weights as they are, since the loss is not finite.

        Returns:
            Norm of the whole gradient before it was clipped. Where it is not finite, the weights are left as they are.
        """


class OwnUpdate:
    """Ours: the team adds the gradients up, torch clips them and steps.

    Args:
        student: in training mode.
        optimizer: over its trainable parameters.
        team: the processes that share the step.
        grad_clip: largest norm; None: no limit.
    """

    def __init__(
        self,
        student: Parts,
        optimizer: torch.optim.Optimizer,
        *,
        team: Team,
        grad_clip: float | None,
    ) -> None:
        self._student = student
        self._optimizer = optimizer
        self._team = team
        self._limit = math.inf if grad_clip is None else grad_clip

    def backward(self, batch: Batch, *, denominator: float) -> torch.Tensor:
        """Into the parameters' own gradients."""
        return backward(self._student, batch, denominator=denominator)

    def apply(self, rate: float, *, is_wanted: bool) -> float:
        """As `Update` has it."""
        import torch

        groups = self._optimizer.param_groups
        parameters = [value for group in groups for value in group["params"]]
        self._team.sum_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self._limit))
        if is_wanted and math.isfinite(norm):
            for group in groups:
                group["lr"] = rate
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        return norm
