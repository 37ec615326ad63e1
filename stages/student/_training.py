"""How a student is trained: what the loop and the optimizer are told."""

from __future__ import annotations

from dataclasses import dataclass

from kpod.stages.student._batches import StepPlan
from kpod.stages.student._schedule import Schedule
from kpod.stages.student._settings import Normalise, OptimizerName


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How to train.

    Args:
        plan: which examples every step reads.
        schedule: the learning rate of every step.
        normalise: what a step's sum of weighted token losses is divided by.
        weight_decay: AdamW's, on matrices only.
        grad_clip: largest gradient norm; longer gradients are scaled down; None: never.
        micro_batch_tokens: most tokens computed at once, padding included.
        checkpoint_every_s: seconds between checkpoints.
        optimizer: which AdamW.
    """

    plan: StepPlan
    schedule: Schedule
    normalise: Normalise
    weight_decay: float
    grad_clip: float | None
    micro_batch_tokens: int
    checkpoint_every_s: float
    optimizer: OptimizerName = "adamw"
