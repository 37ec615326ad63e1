"""The model that trains: loaded in its precision, with its adapter, taken apart for the loss."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kpod.runner import StageError
from kpod.stages._lm.artifact import ModelFiles
from kpod.stages._lm.loading import LoadPrecision, load_lm, load_quantised, pick_device
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.precision import QUANTISED, explain_precision
from kpod.stages._lm.quantised import check_quantisable, make_trainable
from kpod.stages.student._adapter import add_lora, continue_lora
from kpod.stages.student._loss import take_apart
from kpod.stages.student._optimizer import optimizer_remark
from kpod.stages.student._sharding import sharding_asked

if TYPE_CHECKING:
    import torch

    from kpod.runner import Context
    from kpod.stages.student._settings import Config

# What accelerate's launcher tells of `mixed_precision`; a precision bears on results, so that the recipe alone says it.
_TOLD_PRECISION = "ACCELERATE_MIXED_PRECISION"


def build(
    ctx: Context[Config], files: ModelFiles, *, probe_ids: tuple[int, ...], is_checkpointing: bool
) -> Parts:
    """Load the model and make it ready to train.

    Args:
        ctx: settings, seed and placement.
        files: of the model to train; an adapter is trained on with method lora, and merged with method full.
        probe_ids: some tokens to check the parts on.
        is_checkpointing: compute activations twice instead of keeping them.

    Raises:
        StageError: the model cannot be held so, this device cannot compute so, or the adapter has other settings.
        MissingExtra: bitsandbytes is needed and not installed.
    """
    config = ctx.config
    device = pick_device(ctx.placement)
    _note(ctx, files, device)
    _check_computes(device, computed_in(config))
    # Spread over devices later, which none of them may hold whole.
    model: Any = _load(config, files, device if sharding_asked() is None else _main_memory())
    if is_checkpointing:
        model.activation_checkpointing_enable()
    if config.method == "lora":
        model = (
            add_lora(model, config.lora, seed=ctx.seed)
            if files.adapter is None
            else continue_lora(model, config.lora, files.adapter)
        )
    return take_apart(model, precision=computed_in(config), probe_ids=probe_ids)


def _main_memory() -> torch.device:
    import torch

    return torch.device("cpu")


def computed_in(config: Config) -> LoadPrecision:
    """What a student whose `auto` settings are resolved computes in."""
    found = config.compute if config.precision in QUANTISED else config.precision
    assert found in {"fp32", "bf16"}, "the runner resolves auto"
    return found


def _load(config: Config, files: ModelFiles, device: torch.device) -> Any:
    """The model without its adapter, or with it merged where all weights train."""
    computed = computed_in(config)
    if config.method == "full":
        # All weights train in fp32 and compute in bf16; frozen ones are held in what they compute in.
        # peft leaves the weights that it merged an adapter into frozen.
        return load_lm(files, precision="fp32", device=str(device)).requires_grad_(True)
    files = files._replace(adapter=None)
    if config.precision not in QUANTISED:
        return load_lm(files, precision=computed, device=str(device))
    check_quantisable(files, config.precision, setting="precision", instead="auto, fp32 or bf16")
    model = load_quantised(
        files,
        "int8" if config.precision == "int8" else "nf4",
        precision=computed,
        device=str(device),
        is_double=config.precision == "nf4_double",
    )
    make_trainable(model)
    return model


def _check_computes(device: torch.device, computed: LoadPrecision) -> None:
    import torch

    if device.type != "cuda" or computed == "fp32":
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise StageError(
            f"the student is to compute in bf16, which {torch.cuda.get_device_name(device)} does not in hardware\n"
            "allowed here: precision: fp32, or quantised weights with compute: fp32"
        )


def _note(ctx: Context[Config], files: ModelFiles, device: torch.device) -> None:
    """Why this precision, and what is not as the recipe or the launcher has it."""
    config = ctx.config
    ctx.note("precision", explain_precision(config.precision, files.spec, method=config.method))
    remark = optimizer_remark(config.optimizer, device=device.type)
    if remark is not None:
        ctx.note("optimizer", remark)
    told = os.environ.get(_TOLD_PRECISION, "no")
    if told != "no":
        ctx.note(
            "mixed_precision",
            f"accelerate was told mixed_precision: {told}, which is not read; precision: {config.precision} says it",
        )
