"""The model that trains: loaded in its precision, with its adapter, taken apart for the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpod.stages._lm.artifact import ModelFiles
from kpod.stages._lm.loading import load_lm, pick_device
from kpod.stages._lm.parts import Parts
from kpod.stages.student._adapter import add_lora
from kpod.stages.student._loss import take_apart

if TYPE_CHECKING:
    from kpod.runner import Context
    from kpod.stages.student._settings import Config


def build(ctx: Context[Config], files: ModelFiles, *, probe_ids: tuple[int, ...]) -> Parts:
    """Load the model and make it ready to train.

    Args:
        ctx: settings, seed and placement.
        files: of the model to train.
        probe_ids: some tokens to check the parts on.
    """
    config = ctx.config
    # All weights train in fp32 and compute in bf16; frozen ones are held in what they compute in.
    held: Any = config.precision if config.method == "lora" else "fp32"
    device = str(pick_device(ctx.placement))
    model: Any = load_lm(files, precision=held, device=device)
    if config.gradient_checkpointing is True:
        model.activation_checkpointing_enable()
    if config.method == "lora":
        model = add_lora(model, config.lora, seed=ctx.seed)
    return take_apart(model, precision=config.precision, probe_ids=probe_ids)
