"""AdamW over the parameters that train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpod.stages._lm.parts import Parts
from kpod.stages.student._training import Training

if TYPE_CHECKING:
    import torch


def trainable(student: Parts) -> dict[str, torch.nn.Parameter]:
    """The parameters that require a gradient, by name: matrices first, as the optimizer's groups have them."""
    named = {name: value for name, value in student.model.named_parameters() if value.requires_grad}
    return dict(sorted(named.items(), key=lambda item: item[1].dim() < 2))


def make_optimizer(
    parameters: dict[str, torch.nn.Parameter], training: Training, student: Parts
) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only, as is usual for language models."""
    import torch

    matrices = [value for value in parameters.values() if value.dim() > 1]
    vectors = [value for value in parameters.values() if value.dim() < 2]
    groups = [
        {"params": values, "weight_decay": decay}
        for values, decay in ((matrices, training.weight_decay), (vectors, 0.0))
        if values
    ]
    is_fused = student.device.type in {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=0.0, fused=is_fused)
